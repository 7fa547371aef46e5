package statefile

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// Whatever decodes says the same once it is encoded again, and decodes into no
// more than a ring can hold.
func FuzzDecodeRecord(f *testing.F) {
	id := []byte{0, 0, 0, 0, 0, 0, 0, 9}
	for _, due := range [][]limit.Due{nil, {{At: 60_000, Tokens: 1}}, {{At: 1_700_000_000_001, Tokens: 5}, {At: 1_700_000_000_002, Tokens: 1 << 31}}} {
		f.Add(id, appendRing(nil, &limit.Record{Key: 9, Settled: 3, Limit: 5000, Due: due}))
	}
	f.Add([]byte("limits"), appendLimitState(nil, &limit.State{Running: true, Unclean: []limit.UncleanStop{{Number: 1, Stops: 1, At: -1}}}))
	f.Add(id[:4], appendBlock(nil, &block.Record{Opened: 5, Blocked: 7, Failures: 10, Reason: 4}))
	f.Add(id, appendBlock(nil, &block.Record{Opened: 5}))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var ring, ringAgain limit.Record
		if decodeRing(&ring, key, value) == nil {
			if len(ring.Due) > maxDue || !bytes.Equal(appendKeyID(nil, ring.Key), key) {
				t.Fatalf("key %x: %+v", key, ring)
			}
			if err := decodeRing(&ringAgain, key, appendRing(nil, &ring)); err != nil || !reflect.DeepEqual(ring, ringAgain) {
				t.Fatalf("%+v became %+v: %v", ring, ringAgain, err)
			}
		}
		var blocked, blockedAgain block.Record
		if decodeBlock(&blocked, key, value) == nil {
			if !bytes.Equal(appendAddress(nil, blocked.Prefix), key) {
				t.Fatalf("key %x: %+v", key, blocked)
			}
			if err := decodeBlock(&blockedAgain, key, appendBlock(nil, &blocked)); err != nil || blocked != blockedAgain {
				t.Fatalf("%+v became %+v: %v", blocked, blockedAgain, err)
			}
		}
		if state, err := decodeLimitState(value); err == nil {
			if again, err := decodeLimitState(appendLimitState(nil, &state)); err != nil || !reflect.DeepEqual(state, again) {
				t.Fatalf("%+v became %+v: %v", state, again, err)
			}
		}
		_, _ = decodeBlockState(value)
	})
}
