package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// ErrPepper says that keys were made in a way that is not among those of a
// hasher, so that no Check would find them.
var ErrPepper = errors.New("keys would be denied")

// errEnough ends the reading of keys.
var errEnough = errors.New("enough keys were read")

// CheckHashes reads the first most keys, or all where most is zero, and returns
// how many hashes each way of hasher has made, by way, of those that answer at
// now. Where there are others it returns an error that is [ErrPepper] and says
// how many, why, and which is the first.
func CheckHashes(ctx context.Context, keys Keys, hasher apikey.Hasher, now time.Time, most int) ([]int, error) {
	made := make([]int, hasher.Ways())
	var lost lostKeys
	read := 0
	err := keys.EachKey(ctx, 0, func(key *apikey.Key) error {
		if read++; most > 0 && read > most {
			return errEnough
		}
		lost.check(key, hasher, now, made)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("checking how keys were hashed: %w", err)
	}
	return made, lost.err()
}

// CheckNewestHashes does so with the keys of the newest [MaxEvents] events about
// keys: those that were made since a pepper was lost are among them, however
// many older ones there are. It counts nothing.
func CheckNewestHashes(ctx context.Context, s interface {
	Keys
	Audit
}, hasher apikey.Hasher, now time.Time) error {
	events, err := s.ListEvents(ctx, EventFilter{ActionPrefix: "key.", TargetKind: TargetKey, Limit: MaxEvents})
	if err != nil {
		return fmt.Errorf("checking how the newest keys were hashed: %w", err)
	}
	made := make([]int, hasher.Ways())
	seen := map[apikey.KeyID]bool{}
	var lost lostKeys
	for _, event := range events {
		id := apikey.KeyID(event.TargetID)
		if seen[id] {
			continue
		}
		seen[id] = true
		key, err := s.Key(ctx, 0, id)
		if errors.Is(err, ErrNotFound) { // deleted since
			continue
		}
		if err != nil {
			return fmt.Errorf("checking how key %d was hashed: %w", id, err)
		}
		lost.check(key, hasher, now, made)
	}
	return lost.err()
}

// lostKeys are those that no Check would find.
type lostKeys struct {
	peppered, plain int
	first           apikey.KeyID
}

// check counts the hashes of a key that answer at now.
func (l *lostKeys) check(key *apikey.Key, hasher apikey.Hasher, now time.Time, made []int) {
	for _, hash := range []*apikey.Hash{&key.Hash, &key.PreviousHash} {
		if *hash == (apikey.Hash{}) || !key.Answers(hash, now) {
			continue
		}
		if way, known := hasher.WayOf(hash); known {
			made[way]++
		} else {
			l.add(key.ID, hash)
		}
	}
}

func (l *lostKeys) add(id apikey.KeyID, hash *apikey.Hash) {
	if l.peppered+l.plain == 0 {
		l.first = id
	}
	if hash.Peppered() {
		l.peppered++
	} else {
		l.plain++
	}
}

func (l *lostKeys) err() error {
	const peppered, plain = "%d made with a pepper that is not given", "%d made without a pepper"
	var why string
	switch {
	case l.peppered > 0 && l.plain > 0:
		why = fmt.Sprintf(peppered+" and "+plain, l.peppered, l.plain)
	case l.peppered > 0:
		why = fmt.Sprintf(peppered, l.peppered)
	case l.plain > 0:
		why = fmt.Sprintf(plain, l.plain)
	default:
		return nil
	}
	return fmt.Errorf("%w: %s, the first of them key %d", ErrPepper, why, l.first)
}
