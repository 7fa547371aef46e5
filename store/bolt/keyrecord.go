package bolt

import (
	"fmt"
	"math"
	"net/netip"

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
)

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
	return appendTime(record, keyCreatedAt, key.CreatedAt)
}

// decodeKey reads what [encodeKey] wrote. The key keeps nothing of record.
func decodeKey(record []byte) (*apikey.Key, error) {
	key := &apikey.Key{}
	hashed := false
	err := eachField(record, func(f field) error {
		hashed = hashed || f.tag == keyHash
		return setKeyField(key, f)
	}, keyOrigin, keyPrefix)
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
		if len(f.value) != len(key.Hash) {
			return errRecord
		}
		copy(key.Hash[:], f.value)
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
		n, err = number(f.value)
		if key.Strict = true; n != 1 {
			return errRecord
		}
	case keyRateLimit:
		n, err = number(f.value)
		if key.RateLimitPerHour = uint32(n); n > math.MaxUint32 {
			return errRecord
		}
	case keyCreatedAt:
		key.CreatedAt, err = moment(f.value)
	default:
		return unknownField(f.tag)
	}
	return err
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
