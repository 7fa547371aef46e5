package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// KeyChange says which fields of a key to change: those that are absent stay
// as they are, and null clears one.
type KeyChange struct {
	Name             Optional[string]    `json:"name,omitzero" nullable:"false" minLength:"1" maxLength:"100" doc:"What people call the key: printable characters, no space at either end."`
	AllowedOrigins   Optional[[]string]  `json:"allowed_origins,omitzero" maxItems:"100" doc:"The origins a request may name. null or empty: any."`
	AllowedIPs       Optional[[]string]  `json:"allowed_ips,omitzero" maxItems:"100" doc:"The addresses or CIDR prefixes that a request without an origin may come from. null or empty: any."`
	RateLimitPerHour Optional[int64]     `json:"rate_limit_per_hour,omitzero" minimum:"1" maximum:"1000000000" doc:"How many calls any 60 minutes may allow. null: no limit."`
	Strict           Optional[bool]      `json:"strict,omitzero" nullable:"false" doc:"Make both lists hold for every request."`
	Enabled          Optional[bool]      `json:"enabled,omitzero" nullable:"false" doc:"false pauses the key: all its calls are denied until it is enabled."`
	ExpiresAt        Optional[time.Time] `json:"expires_at,omitzero" doc:"When the key ends by itself, in the future. null: never."`
	Notes            Optional[string]    `json:"notes,omitzero" maxLength:"1000" doc:"What you want to remember about the key."`
	Scopes           Optional[[]string]  `json:"scopes,omitzero" maxItems:"100" doc:"What the key may be used for. null or empty: everything."`
	Metadata         Optional[Metadata]  `json:"metadata,omitzero" doc:"Takes the place of all metadata of the key. null or empty: none."`
}

// changes returns what a request does to a key.
func (f *fieldReader) changes(r *KeyChange) []func(*apikey.Key) {
	var all []func(*apikey.Key)
	add := func(given bool, change func(*apikey.Key)) {
		if given {
			all = append(all, change)
		}
	}
	name, given := r.Name.Get()
	add(given, func(key *apikey.Key) { key.Name = name })
	notes, given := r.Notes.Get()
	add(given, func(key *apikey.Key) { key.Notes = notes })
	strict, given := r.Strict.Get()
	add(given, func(key *apikey.Key) { key.Strict = strict })
	enabled, given := r.Enabled.Get()
	add(given, func(key *apikey.Key) { key.Disabled = !enabled })
	texts, given := r.AllowedOrigins.Get()
	origins := f.origins(texts, entryOf("allowed_origins"))
	add(given, func(key *apikey.Key) { key.AllowedOrigins = origins })
	texts, given = r.AllowedIPs.Get()
	addresses := f.addresses(texts)
	add(given, func(key *apikey.Key) { key.AllowedIPs = addresses })
	texts, given = r.Scopes.Get()
	scopes := f.scopes(texts)
	add(given, func(key *apikey.Key) { key.Scopes = scopes })
	values, given := r.Metadata.Get()
	metadata := f.metadata(values)
	add(given, func(key *apikey.Key) { key.Metadata = metadata })
	limit := f.limit(r.RateLimitPerHour.pointer())
	add(!r.RateLimitPerHour.IsZero(), func(key *apikey.Key) { key.RateLimitPerHour = limit })
	expiry := f.expiry(r.ExpiresAt.pointer())
	add(!r.ExpiresAt.IsZero(), func(key *apikey.Key) { key.ExpiresAt = expiry })
	return all
}

// changeKey changes a key of owner, or of anybody where owner is zero.
func (s *service) changeKey(ctx context.Context, by actor, owner apikey.UserID, id apikey.KeyID, request *KeyChange) (Key, error) {
	fields := fieldReader{place: "body", now: s.now()}
	changes := fields.changes(request)
	if err := fields.problem(); err != nil {
		return Key{}, err
	}
	key, err := s.store.UpdateKey(ctx, owner, id, func(key *apikey.Key) error {
		for _, apply := range changes {
			apply(key)
		}
		return key.Validate()
	}, by.audited(s.now()))
	if err != nil {
		return Key{}, fmt.Errorf("changing a key: %w", err)
	}
	s.log(ctx, by, "key changed", "key_id", key.ID, "key_name", key.Name, "owner", key.OwnerName)
	return keyOf(key, s.now()), nil
}
