package admin

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// fieldReader reads the fields of one key and collects what is wrong with
// them.
type fieldReader struct {
	place  string // of the fields, such as "body" or "body.keys[3]"
	now    time.Time
	faults []FieldProblem
}

func (f *fieldReader) fault(field string, err error) {
	if len(f.faults) < maxFaults {
		f.faults = append(f.faults, FieldProblem{Location: f.place + "." + field, Message: clipTo(err.Error(), maxMessage)})
	}
}

// problem returns the faults, or nil where there are none.
func (f *fieldReader) problem() error {
	if len(f.faults) == 0 {
		return nil
	}
	return newProblem(CodeInvalidRequest, f.faults...)
}

func (f *fieldReader) origins(texts []string, field func(i int) string) []apikey.OriginPattern {
	return readList(f, texts, field, apikey.ParseOriginPattern)
}

func (f *fieldReader) addresses(texts []string) []netip.Prefix {
	return readList(f, texts, entryOf("allowed_ips"), apikey.ParseAddressPrefix)
}

func (f *fieldReader) scopes(texts []string) []apikey.Scope {
	return readList(f, texts, entryOf("scopes"), apikey.ParseScope)
}

// entryOf returns how the entries of a list are called.
func entryOf(list string) func(i int) string {
	return func(i int) string { return fmt.Sprintf("%s[%d]", list, i) }
}

func readList[T any](f *fieldReader, texts []string, field func(i int) string, parse func(string) (T, error)) []T {
	var list []T
	for i, text := range texts {
		entry, err := parse(text)
		if err != nil {
			f.fault(field(i), err)
			continue
		}
		list = append(list, entry)
	}
	return list
}

func (f *fieldReader) limit(limit *int64) uint32 {
	switch {
	case limit == nil:
		return 0
	case *limit < 1 || *limit > apikey.MaxRateLimit:
		f.fault("rate_limit_per_hour", fmt.Errorf("expected an integer from 1 to %d or null, got %d", apikey.MaxRateLimit, *limit))
		return 0
	}
	return uint32(*limit)
}

// lastExpiry is the last moment that can be written in every time zone.
var lastExpiry = time.Date(9999, 12, 30, 0, 0, 0, 0, time.UTC)

func (f *fieldReader) expiry(at *time.Time) time.Time {
	switch {
	case at == nil:
		return time.Time{}
	case !at.After(f.now):
		f.fault("expires_at", errors.New("expected a time in the future; pause or delete a key to end it now"))
		return time.Time{}
	case at.After(lastExpiry):
		f.fault("expires_at", fmt.Errorf("expected a time not after %s", lastExpiry.Format(time.DateOnly)))
		return time.Time{}
	}
	return at.UTC().Truncate(time.Microsecond)
}

func (f *fieldReader) metadata(values Metadata) apikey.Metadata {
	metadata, err := apikey.NewMetadata(values)
	var field *apikey.FieldError
	if errors.As(err, &field) {
		f.fault(clip(field.Field), field.Err)
		return nil
	}
	return metadata
}

// validate applies the rules that hold for the key as a whole.
func (f *fieldReader) validate(key *apikey.Key) {
	var field *apikey.FieldError
	if err := key.Validate(); errors.As(err, &field) {
		f.fault(field.Field, field.Err)
	}
}

// newKey returns the key that request describes.
func (f *fieldReader) newKey(request *NewKey, defaultLimit uint32) *apikey.Key {
	key := &apikey.Key{Name: request.Name, Strict: request.Strict, Notes: request.Notes, RateLimitPerHour: defaultLimit}
	origins, nameOfOrigin := request.AllowedOrigins, entryOf("allowed_origins")
	if request.Domain != nil {
		if origins != nil {
			f.fault("domain", errors.New("expected either allowed_origins or domain, got both"))
		}
		origins, nameOfOrigin = []string{*request.Domain}, func(int) string { return "domain" }
	}
	key.AllowedOrigins = f.origins(origins, nameOfOrigin)
	key.AllowedIPs = f.addresses(request.AllowedIPs)
	if request.RateLimitPerHour != nil {
		key.RateLimitPerHour = f.limit(request.RateLimitPerHour)
	}
	key.ExpiresAt = f.expiry(request.ExpiresAt)
	key.Scopes = f.scopes(request.Scopes)
	key.Metadata = f.metadata(request.Metadata)
	f.validate(key)
	return key
}
