package etcd

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

func TestAccountsAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		account := lease.Account{
			Time: rapid.Int64Min(0).Draw(t, "time"), Total: rapid.Uint64().Draw(t, "total"), Generation: rapid.String().Draw(t, "generation"),
			Slots: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) lease.Slot {
				return lease.Slot{Minute: rapid.Int64Min(0).Draw(t, "minute"), Tokens: rapid.Uint32().Draw(t, "tokens")}
			}), 0, 62).Draw(t, "slots"),
			Held: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) lease.Held {
				return lease.Held{
					Lease:  lease.ID{Replica: rapid.Uint64().Draw(t, "replica"), Number: rapid.Uint64().Draw(t, "number")},
					Minute: rapid.Int64Min(0).Draw(t, "minute"), Until: rapid.Int64Min(0).Draw(t, "until"), Tokens: rapid.Uint32().Draw(t, "tokens"),
				}
			}), 0, 10).Draw(t, "held"),
		}
		if len(account.Slots) == 0 {
			account.Slots = nil
		}
		if len(account.Held) == 0 {
			account.Held = nil
		}
		value := appendAccount(nil, &account)
		got, err := decodeAccount(value)
		if err != nil || !reflect.DeepEqual(got, account) {
			t.Fatalf("%+v was read as %+v, %v", account, got, err)
		}
		damaged := append([]byte(nil), value...)
		damaged[rapid.IntRange(0, len(value)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := decodeAccount(damaged); err == nil {
			t.Fatal("a damaged record was read")
		}
		if _, err := decodeAccount(value[:rapid.IntRange(0, len(value)-1).Draw(t, "cut")]); err == nil {
			t.Fatal("a record that is cut short was read")
		}
	})
}
