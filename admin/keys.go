package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// NewKey describes a key to be made.
type NewKey struct {
	Name             string   `json:"name" minLength:"1" maxLength:"100" doc:"What people call the key: printable characters, no space at either end." example:"my-app-prod"`
	AllowedOrigins   []string `json:"allowed_origins,omitempty" nullable:"false" maxItems:"100" doc:"The origins a request may name: https://app.example.io, https://*.example.io for the hosts below a domain, or example.io for any scheme. Empty: any." example:"[\"https://app.example.io\"]"`
	AllowedIPs       []string `json:"allowed_ips,omitempty" nullable:"false" maxItems:"100" doc:"The addresses or CIDR prefixes that a request without an origin may come from. Empty: any." example:"[\"203.0.113.10\"]"`
	RateLimitPerHour *int64   `json:"rate_limit_per_hour,omitempty" nullable:"true" minimum:"1" maximum:"1000000000" doc:"How many calls any 60 minutes may allow. Absent or null: the server's default, which is no limit unless it was set." example:"5000"`
	Strict           bool     `json:"strict,omitempty" doc:"Make both lists hold for every request: with origins listed a request must name one, and with addresses listed it must come from one."`
	Domain           *string  `json:"domain,omitempty" nullable:"false" maxLength:"300" doc:"The older form of allowed_origins with one entry. Not to be given together with it." example:"example.io" deprecated:"true"`
}

// Key is what may be told of a key: everything but its secret.
type Key struct {
	ID               apikey.KeyID `json:"id" doc:"Never used again." example:"123"`
	Name             string       `json:"name" example:"my-app-prod"`
	CreatedAt        time.Time    `json:"created_at"`
	LastUsedAt       *time.Time   `json:"last_used_at" doc:"When the key last allowed a call, some seconds late; null: never." nullable:"true"`
	AllowedOrigins   []string     `json:"allowed_origins" nullable:"false"`
	AllowedIPs       []string     `json:"allowed_ips" nullable:"false"`
	RateLimitPerHour *uint32      `json:"rate_limit_per_hour" doc:"null: no limit." nullable:"true"`
	Strict           bool         `json:"strict"`
	Hint             string       `json:"hint" doc:"The prefix and the last four characters of the key." example:"tk_…a1B2"`
	Owner            string       `json:"owner" doc:"The user name of the key's owner."`
}

// CreatedKey is a new key with its secret, which is never shown again.
type CreatedKey struct {
	ID               apikey.KeyID `json:"id" doc:"Never used again." example:"123"`
	Name             string       `json:"name" example:"my-app-prod"`
	Key              string       `json:"key" doc:"The key itself, for the api-key header. It is shown only here: save it." pattern:"^tk_[0-9A-Za-z]{49}$"`
	CreatedAt        time.Time    `json:"created_at"`
	AllowedOrigins   []string     `json:"allowed_origins" nullable:"false"`
	AllowedIPs       []string     `json:"allowed_ips" nullable:"false"`
	RateLimitPerHour *uint32      `json:"rate_limit_per_hour" doc:"null: no limit." nullable:"true"`
	Strict           bool         `json:"strict"`
	Hint             string       `json:"hint" doc:"The prefix and the last four characters of the key, by which lists tell keys apart."`
	Owner            string       `json:"owner" doc:"The user name of the key's owner."`
	Warnings         []Warning    `json:"warnings" nullable:"false" doc:"What the key's lists leave open."`
}

// Warning says what a new key leaves open.
type Warning struct {
	Code    string `json:"code" enum:"origin_skips_addresses,open_key"`
	Message string `json:"message"`
}

// The codes of warnings.
const (
	WarnOriginSkipsAddresses = "origin_skips_addresses"
	WarnOpenKey              = "open_key"
)

func warningsOf(key *apikey.Key) []Warning {
	switch {
	case key.SkipsAddresses():
		return []Warning{{WarnOriginSkipsAddresses, "A request with an Origin header, which any program can send, skips allowed_ips. " +
			"Set strict to true, or list allowed_origins as well, to close that."}}
	case key.Open():
		return []Warning{{WarnOpenKey, "The key works from any origin and any address. Set allowed_origins or allowed_ips to restrict it."}}
	}
	return []Warning{}
}

func keyOf(key *apikey.Key) Key {
	info := Key{
		ID: key.ID, Name: key.Name, CreatedAt: key.CreatedAt.UTC(), Strict: key.Strict, Hint: key.Hint, Owner: key.OwnerName,
		AllowedOrigins: make([]string, len(key.AllowedOrigins)), AllowedIPs: make([]string, len(key.AllowedIPs)),
	}
	for i, origin := range key.AllowedOrigins {
		info.AllowedOrigins[i] = origin.String()
	}
	for i, prefix := range key.AllowedIPs {
		info.AllowedIPs[i] = apikey.FormatAddressPrefix(prefix)
	}
	if !key.LastUsedAt.IsZero() {
		used := key.LastUsedAt.UTC()
		info.LastUsedAt = &used
	}
	if key.RateLimitPerHour > 0 {
		info.RateLimitPerHour = &key.RateLimitPerHour
	}
	return info
}

// createKey makes a key for owner.
func (s *service) createKey(ctx context.Context, by actor, owner *store.User, request NewKey) (CreatedKey, error) {
	key, err := s.parseKey(request)
	if err != nil {
		return CreatedKey{}, err
	}
	secret, err := apikey.NewSecret(rand.Reader)
	if err != nil {
		return CreatedKey{}, err
	}
	key.Hash, key.Hint = secret.Hash(), secret.Hint()
	key.Owner, key.OwnerName = owner.ID, owner.Name
	key.CreatedAt = s.now().UTC().Truncate(time.Microsecond)
	stored, err := s.store.CreateKey(ctx, key, by.audited(s.now()))
	if err != nil {
		return CreatedKey{}, fmt.Errorf("creating a key: %w", err)
	}
	s.log(ctx, by, "key created", "key_id", stored.ID, "key_name", stored.Name, "owner", owner.Name)
	info := keyOf(stored)
	return CreatedKey{
		ID: info.ID, Name: info.Name, Key: secret.Reveal(), CreatedAt: info.CreatedAt, AllowedOrigins: info.AllowedOrigins,
		AllowedIPs: info.AllowedIPs, RateLimitPerHour: info.RateLimitPerHour, Strict: info.Strict, Hint: info.Hint, Owner: info.Owner,
		Warnings: warningsOf(stored),
	}, nil
}

// parseKey returns the key that request describes, or every field at fault.
func (s *service) parseKey(request NewKey) (*apikey.Key, error) {
	var faults []FieldProblem
	fault := func(field string, err error) {
		if len(faults) < maxFaults {
			faults = append(faults, FieldProblem{Location: "body." + field, Message: err.Error()})
		}
	}
	key := &apikey.Key{Name: request.Name, Strict: request.Strict, RateLimitPerHour: s.defaultLimit}
	origins, nameOfOrigin := request.AllowedOrigins, func(i int) string { return fmt.Sprintf("allowed_origins[%d]", i) }
	if request.Domain != nil {
		if origins != nil {
			fault("domain", errors.New("expected either allowed_origins or domain, got both"))
		}
		origins, nameOfOrigin = []string{*request.Domain}, func(int) string { return "domain" }
	}
	for i, text := range origins {
		pattern, err := apikey.ParseOriginPattern(text)
		if err != nil {
			fault(nameOfOrigin(i), err)
			continue
		}
		key.AllowedOrigins = append(key.AllowedOrigins, pattern)
	}
	for i, text := range request.AllowedIPs {
		prefix, err := apikey.ParseAddressPrefix(text)
		if err != nil {
			fault(fmt.Sprintf("allowed_ips[%d]", i), err)
			continue
		}
		key.AllowedIPs = append(key.AllowedIPs, prefix)
	}
	if limit := request.RateLimitPerHour; limit != nil {
		if *limit < 1 || *limit > apikey.MaxRateLimit {
			fault("rate_limit_per_hour", fmt.Errorf("expected an integer from 1 to %d or null, got %d", apikey.MaxRateLimit, *limit))
		} else {
			key.RateLimitPerHour = uint32(*limit)
		}
	}
	var field *apikey.FieldError
	if err := key.Validate(); errors.As(err, &field) {
		fault(field.Field, field.Err)
	}
	if len(faults) > 0 {
		return nil, newProblem(CodeInvalidRequest, faults...)
	}
	return key, nil
}

// listKeys returns the keys of owner, or all keys where owner is zero.
func (s *service) listKeys(ctx context.Context, owner apikey.UserID) ([]Key, error) {
	keys, err := s.store.ListKeys(ctx, owner)
	if err != nil {
		return nil, fmt.Errorf("listing keys: %w", err)
	}
	list := make([]Key, len(keys))
	for i, key := range keys {
		list[i] = keyOf(key)
	}
	return list, nil
}

// deleteKey deletes a key of owner, or of anybody where owner is zero.
func (s *service) deleteKey(ctx context.Context, by actor, owner apikey.UserID, id apikey.KeyID) (DeletedKey, error) {
	key, err := s.store.DeleteKey(ctx, owner, id, by.audited(s.now()))
	if err != nil {
		return DeletedKey{}, fmt.Errorf("deleting a key: %w", err)
	}
	s.log(ctx, by, "key deleted", "key_id", key.ID, "key_name", key.Name, "owner", key.OwnerName)
	return DeletedKey{ID: key.ID, Name: key.Name, Deleted: true}, nil
}

// DeletedKey says which key is gone.
type DeletedKey struct {
	ID      apikey.KeyID `json:"key_id" example:"123"`
	Name    string       `json:"name"`
	Deleted bool         `json:"deleted" doc:"Always true."`
}
