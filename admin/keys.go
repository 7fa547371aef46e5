package admin

import (
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/tokenkithq/authz/apikey"
)

// NewKey describes a key to be made.
type NewKey struct {
	Name             string     `json:"name" minLength:"1" maxLength:"100" doc:"What people call the key: printable characters, no space at either end." example:"my-app-prod"`
	AllowedOrigins   []string   `json:"allowed_origins,omitempty" nullable:"false" maxItems:"100" doc:"The origins a request may name: https://app.example.io, https://*.example.io for the hosts below a domain, or example.io for any scheme. Empty: any." example:"[\"https://app.example.io\"]"`
	AllowedIPs       []string   `json:"allowed_ips,omitempty" nullable:"false" maxItems:"100" doc:"The addresses or CIDR prefixes that a request without an origin may come from. Empty: any." example:"[\"203.0.113.10\"]"`
	RateLimitPerHour *int64     `json:"rate_limit_per_hour,omitempty" nullable:"true" minimum:"1" maximum:"1000000000" doc:"How many calls any 60 minutes may allow. Absent or null: the server's default, which is no limit unless it was set." example:"5000"`
	Strict           bool       `json:"strict,omitempty" doc:"Make both lists hold for every request: with origins listed a request must name one, and with addresses listed it must come from one."`
	Domain           *string    `json:"domain,omitempty" nullable:"false" maxLength:"300" doc:"The older form of allowed_origins with one entry. Not to be given together with it." example:"example.io" deprecated:"true"`
	ExpiresAt        *time.Time `json:"expires_at,omitempty" nullable:"true" doc:"When the key ends by itself, in the future. Absent or null: never." example:"2030-01-01T00:00:00Z"`
	Notes            string     `json:"notes,omitempty" maxLength:"1000" doc:"What you want to remember about the key, perhaps in several lines."`
	Scopes           []string   `json:"scopes,omitempty" nullable:"false" maxItems:"100" doc:"What the key may be used for: a path such as /v1/, a path with methods such as GET,HEAD /v1/, or a name such as reports:read that routes ask for. Empty: everything." example:"[\"GET,HEAD /v1/\"]"`
	Metadata         Metadata   `json:"metadata,omitempty" nullable:"false" doc:"Values that the services behind Envoy are told with every allowed call." example:"{\"team\":\"payments\"}"`
}

// Metadata are the names and values of a key's [apikey.Metadata].
type Metadata map[string]string

// Schema describes metadata as the API does.
func (Metadata) Schema(huma.Registry) *huma.Schema {
	entries, value := apikey.MaxMetadataEntries, apikey.MaxMetadataValue
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: &huma.Schema{Type: huma.TypeString, MaxLength: &value}, MaxProperties: &entries,
		Extensions: map[string]any{"propertyNames": map[string]any{"pattern": "^[a-z][a-z0-9_]{0,39}$"}},
	}
}

// Key is what may be told of a key: everything but its secret.
type Key struct {
	ID                apikey.KeyID `json:"id" doc:"Never used again." example:"123"`
	Name              string       `json:"name" example:"my-app-prod"`
	CreatedAt         time.Time    `json:"created_at"`
	LastUsedAt        *time.Time   `json:"last_used_at" doc:"When the key last allowed a call, some seconds late; null: never." nullable:"true"`
	AllowedOrigins    []string     `json:"allowed_origins" nullable:"false"`
	AllowedIPs        []string     `json:"allowed_ips" nullable:"false"`
	RateLimitPerHour  *uint32      `json:"rate_limit_per_hour" doc:"null: no limit." nullable:"true"`
	Strict            bool         `json:"strict"`
	Hint              string       `json:"hint" doc:"The prefix and the last four characters of the key, by which lists tell keys apart." example:"tk_…a1B2"`
	Owner             string       `json:"owner" doc:"The user name of the key's owner."`
	Notes             string       `json:"notes"`
	Metadata          Metadata     `json:"metadata" nullable:"false"`
	Scopes            []string     `json:"scopes" nullable:"false" doc:"Empty: everything."`
	Enabled           bool         `json:"enabled" doc:"false: the key is paused, and all its calls are denied."`
	State             string       `json:"state" enum:"active,paused,expired" doc:"A key that has expired is expired, paused or not."`
	ExpiresAt         *time.Time   `json:"expires_at" nullable:"true" doc:"When the key ends by itself; null: never."`
	UpdatedAt         *time.Time   `json:"updated_at" nullable:"true" doc:"When the key was last changed; null: never."`
	PreviousHint      string       `json:"previous_hint" doc:"The hint of the key's value before it was rotated, while that still works, or else empty."`
	PreviousExpiresAt *time.Time   `json:"previous_expires_at" nullable:"true" doc:"Until when the value before that still works; null: it does not."`
	Warnings          []Warning    `json:"warnings" nullable:"false" doc:"What the key's lists leave open."`
}

// Details is what is shown of a key at any time.
type Details = Key

// CreatedKey is a key with its secret, which is never shown again: a new key,
// or one that was rotated.
type CreatedKey struct {
	Details
	Key string `json:"key" doc:"The key itself, for the api-key header. It is shown only here: save it." pattern:"^tk_[0-9A-Za-z]{49}$"`
}

// DeletedKey says which key is gone.
type DeletedKey struct {
	ID      apikey.KeyID `json:"key_id" example:"123"`
	Name    string       `json:"name"`
	Deleted bool         `json:"deleted" doc:"Always true."`
}

// Warning says what a key leaves open.
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

// States of a key.
const (
	StateActive  = "active"
	StatePaused  = "paused"
	StateExpired = "expired"
)

func stateOf(key *apikey.Key, now time.Time) string {
	switch {
	case key.Expired(now):
		return StateExpired
	case key.Disabled:
		return StatePaused
	}
	return StateActive
}

func keyOf(key *apikey.Key, now time.Time) Key {
	info := Key{
		ID: key.ID, Name: key.Name, CreatedAt: key.CreatedAt.UTC(), LastUsedAt: timeOrNil(key.LastUsedAt), Strict: key.Strict,
		Hint: key.Hint, Owner: key.OwnerName, Notes: key.Notes, Metadata: key.Metadata.Map(), Enabled: !key.Disabled,
		State: stateOf(key, now), ExpiresAt: timeOrNil(key.ExpiresAt), UpdatedAt: timeOrNil(key.UpdatedAt), Warnings: warningsOf(key),
		AllowedOrigins: make([]string, len(key.AllowedOrigins)), AllowedIPs: make([]string, len(key.AllowedIPs)),
		Scopes: make([]string, len(key.Scopes)),
	}
	for i, origin := range key.AllowedOrigins {
		info.AllowedOrigins[i] = origin.String()
	}
	for i, prefix := range key.AllowedIPs {
		info.AllowedIPs[i] = apikey.FormatAddressPrefix(prefix)
	}
	for i, scope := range key.Scopes {
		info.Scopes[i] = scope.String()
	}
	if key.RateLimitPerHour > 0 {
		limit := key.RateLimitPerHour
		info.RateLimitPerHour = &limit
	}
	if key.PreviousHash != (apikey.Hash{}) && now.Before(key.PreviousUntil) {
		info.PreviousHint, info.PreviousExpiresAt = key.PreviousHint, timeOrNil(key.PreviousUntil)
	}
	return info
}

// timeOrNil returns t in UTC, or nil where it is zero.
func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
