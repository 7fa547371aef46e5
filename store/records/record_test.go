package records

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"pgregory.net/rapid"
)

var drawTime = rapid.Custom(func(t *rapid.T) time.Time {
	if rapid.Bool().Draw(t, "zero") {
		return time.Time{}
	}
	return time.UnixMicro(rapid.Int64Range(-1<<55, 1<<57).Draw(t, "micros")).UTC()
})

var drawKey = rapid.Custom(func(t *rapid.T) *apikey.Key {
	key := &apikey.Key{
		Hint: rapid.SampledFrom([]string{"", "tk_…a1B2"}).Draw(t, "hint"), Name: rapid.StringN(0, 100, -1).Draw(t, "name"),
		Owner: apikey.UserID(rapid.Int64Range(1, 1<<62).Draw(t, "owner")), OwnerName: rapid.StringMatching(`[a-z]{0,64}`).Draw(t, "owner name"),
		Strict: rapid.Bool().Draw(t, "strict"), RateLimitPerHour: rapid.Uint32().Draw(t, "limit"), CreatedAt: drawTime.Draw(t, "created"),
	}
	copy(key.Hash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
	for _, text := range rapid.SliceOfN(rapid.SampledFrom([]string{"https://a.example", "*.b.example:81", "null", "c.example", "http://[::1]:8"}), 0, 100).Draw(t, "origins") {
		origin, err := apikey.ParseOriginPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		key.AllowedOrigins = append(key.AllowedOrigins, origin)
	}
	for range rapid.IntRange(0, 100).Draw(t, "prefixes") {
		addr := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")))
		if rapid.Bool().Draw(t, "IPv6") {
			addr = netip.AddrFrom16([16]byte(append([]byte{0x20}, rapid.SliceOfN(rapid.Byte(), 15, 15).Draw(t, "address")...)))
		}
		key.AllowedIPs = append(key.AllowedIPs, netip.PrefixFrom(addr, rapid.IntRange(0, addr.BitLen()).Draw(t, "bits")).Masked())
	}
	if rapid.Bool().Draw(t, "rotated") {
		copy(key.PreviousHash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "previous hash"))
		key.PreviousHint, key.PreviousUntil = rapid.SampledFrom([]string{"", "tk_…zZ09"}).Draw(t, "previous hint"), drawTime.Draw(t, "previous until")
	}
	for _, text := range rapid.SliceOfN(rapid.SampledFrom([]string{"/v1/", "GET,HEAD /v2", "reports:read"}), 0, 5).Draw(t, "scopes") {
		scope, err := apikey.ParseScope(text)
		if err != nil {
			t.Fatal(err)
		}
		key.Scopes = append(key.Scopes, scope)
	}
	for _, name := range rapid.SliceOfN(rapid.StringMatching(`[a-z_]{1,9}`), 0, 5).Draw(t, "names") {
		key.Metadata = append(key.Metadata, apikey.MetadataEntry{Name: name, Value: rapid.StringN(0, 20, -1).Draw(t, "value")})
	}
	key.Notes, key.Disabled = rapid.StringN(0, 100, -1).Draw(t, "notes"), rapid.Bool().Draw(t, "disabled")
	key.ExpiresAt, key.UpdatedAt = drawTime.Draw(t, "expires"), drawTime.Draw(t, "updated")
	return key
})

var drawAddress = rapid.Custom(func(t *rapid.T) netip.Addr {
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		return netip.Addr{}
	case 1:
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")))
	}
	return netip.AddrFrom16([16]byte(append([]byte{0x20}, rapid.SliceOfN(rapid.Byte(), 15, 15).Draw(t, "address")...)))
})

// A key that is changed keeps the fields of a later version.
func TestCarriedFields(t *testing.T) {
	key := &apikey.Key{Hash: apikey.Hash{1}, Name: "a", Owner: 1, Notes: "n", Metadata: apikey.Metadata{{Name: "a", Value: "b"}}}
	old := encodeKey(key)
	for _, later := range []field{{1, []byte("first")}, {21, []byte("between")}, {21, []byte("again")}, {1001, []byte("last")}} {
		var err error
		if old, err = insertField(old, later); err != nil {
			t.Fatal(err)
		}
	}
	key.Name, key.Notes, key.Disabled = "b", "", true
	known := func(tag uint64) bool { return slices.Contains(keyTags, tag) }
	record, err := carryFields(encodeKey(key), old, known)
	if err != nil {
		t.Fatal(err)
	}
	if decoded, err := decodeKey(record); err != nil || !reflect.DeepEqual(decoded, key) {
		t.Fatalf("got %+v, %v, want %+v", decoded, err, key)
	}
	if i, j := bytes.Index(record, []byte("between")), bytes.Index(record, []byte("again")); !bytes.Contains(record, []byte("first")) || !bytes.Contains(record, []byte("last")) || i < 0 || j < i {
		t.Errorf("fields of a later version are lost: %q", record)
	}
	if back, err := carryFields(encodeKey(key), record, known); err != nil || !bytes.Equal(back, record) {
		t.Errorf("carried again: %q, %v", back, err)
	}
}

func TestKeyRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := drawKey.Draw(t, "key")
		record := encodeKey(key)
		before := bytes.Clone(record)
		decoded, err := decodeKey(record)
		if err != nil || !reflect.DeepEqual(decoded, key) {
			t.Fatalf("got %+v, %v, want %+v", decoded, err, key)
		}
		for i := range record {
			record[i] ^= 0xff // the key must keep nothing of it
		}
		if !reflect.DeepEqual(decoded, key) {
			t.Fatal("the key changed with its record")
		}
		for n := range before {
			if _, err := decodeKey(before[:n]); err == nil && n < len(before)-1 && !fieldEnds(before, n) {
				t.Fatalf("%d of %d bytes were decoded", n, len(before))
			}
		}
	})
}

// fieldEnds reports whether a field ends at n.
func fieldEnds(record []byte, n int) bool {
	rest := record[1:]
	for len(rest) > 0 && len(record)-len(rest) < n {
		_, rest, _ = nextField(rest, 0)
	}
	return len(record)-len(rest) == n
}

// Records as the first version wrote them: what is on disks must be readable
// for good.
func TestGoldenRecords(t *testing.T) {
	origin, err := apikey.ParseOriginPattern("https://*.example.io")
	if err != nil {
		t.Fatal(err)
	}
	key := &apikey.Key{
		Hash: apikey.Hash{1, 2, 3}, Hint: "tk_…a1B2", Name: "full", Owner: 300, OwnerName: "ada", Strict: true, RateLimitPerHour: 5000,
		AllowedOrigins: []apikey.OriginPattern{origin, origin},
		AllowedIPs:     []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")},
		CreatedAt:      time.Date(2026, 3, 1, 12, 0, 0, 5000, time.UTC),
	}
	const golden = "01" + "0220" + "010203" + "0000000000000000000000000000000000000000000000000000000000" +
		"040a" + "746b5fe280a661314232" + "0604" + "66756c6c" + "0802" + "ac02" + "0a03" + "616461" +
		"0c14" + "68747470733a2f2f2a2e6578616d706c652e696f" + "0c14" + "68747470733a2f2f2a2e6578616d706c652e696f" +
		"0e05" + "18cb007100" + "0e11" + "2020010db8000000000000000000000000" + "1001" + "01" + "1202" + "8827" + "1408" + "8bc0f8daa6fda506"
	record, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	if encoded := encodeKey(key); !bytes.Equal(encoded, record) {
		t.Errorf("encoded\n%x, want\n%x", encoded, record)
	}
	if decoded, err := decodeKey(record); err != nil || !reflect.DeepEqual(decoded, key) {
		t.Errorf("decoded %+v, %v", decoded, err)
	}
}

func TestUserAndSessionRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := &store.User{
			Name: rapid.StringMatching(`[a-z]{1,64}`).Draw(t, "name"), Email: rapid.StringMatching(`([a-z]{1,9}@[a-z]{1,9})?`).Draw(t, "email"),
			PasswordHash: rapid.StringMatching(`[a-z$]{0,200}`).Draw(t, "hash"), Role: rapid.SampledFrom(store.Roles()).Draw(t, "role"), CreatedAt: drawTime.Draw(t, "created"),
		}
		if decoded, err := decodeUser(encodeUser(user)); err != nil || !reflect.DeepEqual(decoded, user) {
			t.Fatalf("got %+v, %v, want %+v", decoded, err, user)
		}
		session := &store.Session{
			User: apikey.UserID(rapid.Int64Range(1, 1<<62).Draw(t, "user")), CreatedAt: drawTime.Draw(t, "created"), ExpiresAt: drawTime.Draw(t, "expires"),
			LastSeenAt: drawTime.Draw(t, "seen"), Address: drawAddress.Draw(t, "address"), UserAgent: rapid.StringMatching(`[a-z/]{0,50}`).Draw(t, "agent"),
		}
		if decoded, err := decodeSession(encodeSession(session)); err != nil || !reflect.DeepEqual(decoded, session) {
			t.Fatalf("got %+v, %v, want %+v", decoded, err, session)
		}
		invitation := &store.Invitation{
			Name: user.Name, Email: user.Email, Role: user.Role, CreatedAt: user.CreatedAt, ExpiresAt: session.ExpiresAt, InvitedBy: session.UserAgent,
		}
		if decoded, err := decodeInvitation(encodeInvitation(invitation)); err != nil || !reflect.DeepEqual(decoded, invitation) {
			t.Fatalf("got %+v, %v, want %+v", decoded, err, invitation)
		}
	})
}

// A field of a later version is passed over where that is right, refused as
// newer where it must be understood, and kept by changes.
func TestLaterFields(t *testing.T) {
	user := encodeUser(&store.User{Name: "ada", PasswordHash: "old"})
	optional := appendField(append([]byte{recordFormat}, appendField(nil, 1, []byte("first"))...), userName, []byte("ada"))
	optional = appendField(optional, 5, []byte("twice"))
	optional = appendField(optional, 5, []byte("over"))
	optional = appendField(optional, userPasswordHash, []byte("old"))
	optional = appendField(optional, 1001, []byte("last"))
	decoded, err := decodeUser(optional)
	if want, _ := decodeUser(user); err != nil || !reflect.DeepEqual(decoded, want) {
		t.Errorf("with fields to be passed over: %+v, %v", decoded, err)
	}
	for _, hash := range []string{"new", "", "longer than it was"} {
		changed, err := setField(optional, userPasswordHash, []byte(hash))
		if err != nil {
			t.Fatal(err)
		}
		if decoded, err := decodeUser(changed); err != nil || decoded.PasswordHash != hash {
			t.Errorf("changed to %q: %+v, %v", hash, decoded, err)
		}
		for _, kept := range []string{"first", "twice", "over", "last"} {
			if !strings.Contains(string(changed), kept) {
				t.Errorf("changing the password lost a field with %q", kept)
			}
		}
		if back, err := setField(changed, userPasswordHash, []byte("old")); err != nil || !bytes.Equal(back, optional) {
			t.Errorf("changed back: %x, %v, want %x", back, err, optional)
		}
	}
	key := encodeKey(&apikey.Key{Name: "a", Owner: 1})
	for name, later := range map[string][]byte{
		"field":  appendField(bytes.Clone(key), 1000, []byte{1}),
		"format": append([]byte{recordFormat + 1}, key[1:]...),
	} {
		if _, err := decodeKey(later); !errors.Is(err, ErrNewer) {
			t.Errorf("%s: got %v, want ErrNewer", name, err)
		}
	}
	if _, err := decodeKey(appendField(bytes.Clone(key), 1001, []byte{1})); err != nil {
		t.Errorf("with a field to be passed over: %v", err)
	}
}

func TestMalformedRecords(t *testing.T) {
	good := encodeKey(&apikey.Key{Name: "a", Owner: 1})
	with := func(tag uint64, value ...byte) []byte {
		record := appendField([]byte{recordFormat}, keyHash, make([]byte, 32))
		if tag < keyOwner {
			return appendField(appendField(record, tag, value), keyOwner, []byte{1})
		}
		return appendField(appendField(record, keyOwner, []byte{1}), tag, value)
	}
	if _, err := decodeKey(with(keyName, 'a')); err != nil {
		t.Fatal(err)
	}
	for name, record := range map[string][]byte{
		"empty": {}, "no fields": {recordFormat}, "no hash": appendField([]byte{recordFormat}, keyOwner, []byte{1}),
		"no owner":         appendField([]byte{recordFormat}, keyHash, make([]byte, 32)),
		"short hash":       appendField(appendField([]byte{recordFormat}, keyHash, make([]byte, 31)), keyOwner, []byte{1}),
		"two names":        appendField(with(keyName, 'a')[:37], keyName, []byte("bb")),
		"descending":       appendField(bytes.Clone(good), keyName, []byte("b")),
		"tag zero":         append([]byte{recordFormat, 0, 0}, good[1:]...),
		"cut off":          good[:len(good)-1],
		"long tag":         append(bytes.Clone(good), 0xff, 0x00, 0x01, 0x01),
		"endless tag":      append(bytes.Clone(good), 0xff, 0xff),
		"huge length":      append(bytes.Clone(good), 101, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
		"empty name":       with(keyName),
		"zero owner":       appendField(appendField([]byte{recordFormat}, keyHash, make([]byte, 32)), keyOwner, []byte{0}),
		"negative owner":   appendField(appendField([]byte{recordFormat}, keyHash, make([]byte, 32)), keyOwner, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}),
		"origin":           with(keyOrigin, []byte("x y")...),
		"no prefix":        with(keyPrefix),
		"prefix length":    with(keyPrefix, 33, 1, 2, 3, 4),
		"prefix bytes":     with(keyPrefix, 8, 1, 2, 3),
		"prefix host bits": with(keyPrefix, 8, 1, 2, 3, 4),
		"mapped prefix":    with(keyPrefix, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4),
		"strict 2":         with(keyStrict, 2),
		"limit of 33 bits": with(keyRateLimit, 0x80, 0x80, 0x80, 0x80, 0x10),
		"number and more":  with(keyRateLimit, 1, 1),
		"number too long":  with(keyRateLimit, 0x81, 0),
		"disabled 2":       with(keyDisabled, 2), "short previous hash": with(keyPreviousHash, make([]byte, 31)...),
		"scope": with(keyScope, []byte("x y")...), "no metadata": with(keyMetadata), "metadata without a value": with(keyMetadata, 'a'), "no notes": with(keyNotes),
		"time zero":         with(keyCreatedAt, 0),
		"time of no number": with(keyCreatedAt),
	} {
		if key, err := decodeKey(record); err == nil || errors.Is(err, ErrNewer) {
			t.Errorf("%s: %+v, %v", name, key, err)
		}
	}
}

func FuzzDecodeKey(f *testing.F) {
	f.Add(encodeKey(&apikey.Key{Name: "a", Owner: 1}))
	f.Add(encodeKey(drawKey.Example(1)))
	f.Add(encodeKey(drawKey.Example(7)))
	f.Add(appendField(encodeKey(&apikey.Key{Name: "a", Owner: 1}), 1001, []byte{1}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, record []byte) {
		key, err := decodeKey(record)
		if err != nil {
			return
		}
		encoded := encodeKey(key)
		again, err := decodeKey(encoded)
		if err != nil || !reflect.DeepEqual(again, key) {
			t.Fatalf("%x was decoded as %+v, which encodes to %x, which is %+v, %v", record, key, encoded, again, err)
		}
		if len(encoded) > 0 && !bytes.Equal(encodeKey(again), encoded) {
			t.Fatal("one key has two records")
		}
	})
}
