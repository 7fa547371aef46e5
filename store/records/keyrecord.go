package records

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/tokenkithq/authz/apikey"
)

// The fields of a key's record. The id is the record's place, and the time of
// last use stands elsewhere, since it changes all the time.
const (
	keyHash      = 2  // 32 bytes
	keyHint      = 4  // text
	keyName      = 6  // text
	keyOwner     = 8  // number
	keyOwnerName = 10 // text
	keyOrigin    = 12 // text in canonical form, once an origin
	keyPrefix    = 14 // length in bits and 4 or 16 bytes, once a prefix
	keyStrict    = 16 // number: 1
	keyRateLimit = 18 // number, at most 32 bits
	keyCreatedAt = 20 // number: Unix time in microseconds, zigzag

	keyPreviousHash  = 22 // 32 bytes
	keyPreviousHint  = 24 // text
	keyPreviousUntil = 26 // as keyCreatedAt
	keyScope         = 28 // text in canonical form, once a scope
	keyDisabled      = 30 // number: 1
	keyExpiresAt     = 32 // as keyCreatedAt
	keyNotes         = 33 // text
	keyMetadata      = 35 // text: name=value, once an entry
	keyUpdatedAt     = 37 // as keyCreatedAt
)

// keyTags are the fields that this version writes.
var keyTags = []uint64{
	keyHash, keyHint, keyName, keyOwner, keyOwnerName, keyOrigin, keyPrefix, keyStrict, keyRateLimit, keyCreatedAt,
	keyPreviousHash, keyPreviousHint, keyPreviousUntil, keyScope, keyDisabled, keyExpiresAt, keyNotes, keyMetadata, keyUpdatedAt,
}

// encodeKey returns the record of key, without its id and time of last use.
func encodeKey(key *apikey.Key) []byte {
	record := make([]byte, 1, 160)
	record[0] = recordFormat
	record = appendField(record, keyHash, key.Hash[:])
	record = appendText(record, keyHint, key.Hint)
	record = appendText(record, keyName, key.Name)
	record = appendNumber(record, keyOwner, uint64(key.Owner))
	record = appendText(record, keyOwnerName, key.OwnerName)
	for _, origin := range key.AllowedOrigins {
		record = appendField(record, keyOrigin, []byte(origin.String()))
	}
	for _, prefix := range key.AllowedIPs {
		value := append([]byte{byte(prefix.Bits())}, prefix.Addr().AsSlice()...)
		record = appendField(record, keyPrefix, value)
	}
	if key.Strict {
		record = appendNumber(record, keyStrict, 1)
	}
	record = appendNumber(record, keyRateLimit, uint64(key.RateLimitPerHour))
	record = appendTime(record, keyCreatedAt, key.CreatedAt)
	if key.PreviousHash != (apikey.Hash{}) {
		record = appendField(record, keyPreviousHash, key.PreviousHash[:])
	}
	record = appendText(record, keyPreviousHint, key.PreviousHint)
	record = appendTime(record, keyPreviousUntil, key.PreviousUntil)
	for i := range key.Scopes {
		record = appendField(record, keyScope, []byte(key.Scopes[i].String()))
	}
	if key.Disabled {
		record = appendNumber(record, keyDisabled, 1)
	}
	record = appendTime(record, keyExpiresAt, key.ExpiresAt)
	record = appendText(record, keyNotes, key.Notes)
	for _, entry := range key.Metadata {
		record = appendField(record, keyMetadata, []byte(entry.Name+"="+entry.Value))
	}
	return appendTime(record, keyUpdatedAt, key.UpdatedAt)
}

// decodeKey reads what [encodeKey] wrote. The key keeps nothing of record.
func decodeKey(record []byte) (*apikey.Key, error) {
	key := &apikey.Key{}
	hashed := false
	err := eachField(record, func(f field) error {
		hashed = hashed || f.tag == keyHash
		return setKeyField(key, f)
	}, keyOrigin, keyPrefix, keyScope)
	if err == nil && (!hashed || key.Owner == 0) {
		err = fmt.Errorf("%w: a key without hash or owner", errRecord)
	}
	if err != nil {
		return nil, err
	}
	return key, nil
}

func setKeyField(key *apikey.Key, f field) (err error) {
	var n uint64
	switch f.tag {
	case keyHash:
		return setHash(&key.Hash, f.value)
	case keyHint:
		key.Hint, err = text(f.value)
	case keyName:
		key.Name, err = text(f.value)
	case keyOwner:
		n, err = positive(f.value)
		key.Owner = apikey.UserID(n)
	case keyOwnerName:
		key.OwnerName, err = text(f.value)
	case keyOrigin:
		return addOrigin(key, f.value)
	case keyPrefix:
		return addPrefix(key, f.value)
	case keyStrict:
		key.Strict, err = yes(f.value)
	case keyRateLimit:
		n, err = number(f.value)
		if key.RateLimitPerHour = uint32(n); n > math.MaxUint32 {
			return errRecord
		}
	case keyCreatedAt:
		key.CreatedAt, err = moment(f.value)
	default:
		return setLaterKeyField(key, f)
	}
	return err
}

// setLaterKeyField sets what keys have had since version 2 of the file.
func setLaterKeyField(key *apikey.Key, f field) (err error) {
	switch f.tag {
	case keyPreviousHash:
		return setHash(&key.PreviousHash, f.value)
	case keyPreviousHint:
		key.PreviousHint, err = text(f.value)
	case keyPreviousUntil:
		key.PreviousUntil, err = moment(f.value)
	case keyScope:
		return addScope(key, f.value)
	case keyDisabled:
		key.Disabled, err = yes(f.value)
	case keyExpiresAt:
		key.ExpiresAt, err = moment(f.value)
	case keyNotes:
		key.Notes, err = text(f.value)
	case keyMetadata:
		return addMetadata(key, f.value)
	case keyUpdatedAt:
		key.UpdatedAt, err = moment(f.value)
	default:
		return unknownField(f.tag)
	}
	return err
}

func setHash(hash *apikey.Hash, value []byte) error {
	if len(value) != len(hash) {
		return errRecord
	}
	copy(hash[:], value)
	return nil
}

// yes reads the number 1, the only value of what is either so or left out.
func yes(value []byte) (bool, error) {
	n, err := number(value)
	if err == nil && n != 1 {
		err = errRecord
	}
	return true, err
}

func addScope(key *apikey.Key, value []byte) error {
	written, err := text(value)
	if err != nil {
		return err
	}
	scope, err := apikey.ParseScope(written)
	if err != nil {
		return fmt.Errorf("%w: a scope: %w", errRecord, err)
	}
	key.Scopes = append(key.Scopes, scope)
	return nil
}

func addMetadata(key *apikey.Key, value []byte) error {
	entry, err := text(value)
	if err != nil {
		return err
	}
	name, rest, found := strings.Cut(entry, "=")
	if !found {
		return errRecord
	}
	key.Metadata = append(key.Metadata, apikey.MetadataEntry{Name: name, Value: rest})
	return nil
}

func addOrigin(key *apikey.Key, value []byte) error {
	origin, err := text(value)
	if err != nil {
		return err
	}
	pattern, err := apikey.ParseOriginPattern(origin)
	if err != nil {
		return fmt.Errorf("%w: an allowed origin: %w", errRecord, err)
	}
	key.AllowedOrigins = append(key.AllowedOrigins, pattern)
	return nil
}

func addPrefix(key *apikey.Key, value []byte) error {
	if len(value) == 0 {
		return errRecord
	}
	addr, ok := netip.AddrFromSlice(value[1:])
	prefix := netip.PrefixFrom(addr, int(value[0]))
	if !ok || !prefix.IsValid() || addr.Is4In6() || prefix != prefix.Masked() {
		return errRecord
	}
	key.AllowedIPs = append(key.AllowedIPs, prefix)
	return nil
}
