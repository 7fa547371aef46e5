package etcd

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block/shared"
)

func prefixes() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		n := rapid.Byte().Draw(t, "address")
		if rapid.Bool().Draw(t, "six") {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, n}), 64)
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 32)
	})
}

func TestEventsAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := blockEvent{time: rapid.Int64Min(0).Draw(t, "time")}
		if rapid.Bool().Draw(t, "unblocks") {
			e.unblocked = prefixes().Draw(t, "unblocked")
		} else {
			e.failures = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) shared.Failure {
				return shared.Failure{
					Prefix: prefixes().Draw(t, "prefix"), Reason: rapid.SampledFrom(apikey.Reasons()).Draw(t, "reason"),
					Threshold: rapid.Uint32().Draw(t, "threshold"), Window: time.Duration(rapid.Int64Range(0, 1e9).Draw(t, "window")) * time.Millisecond,
				}
			}), 1, 20).Draw(t, "failures")
		}
		value := e.encode()
		got, err := decodeEvent(value)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%+v was read as %+v, %v", e, got, err)
		}
		damaged := append([]byte(nil), value...)
		damaged[rapid.IntRange(0, len(value)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := decodeEvent(damaged); err == nil {
			t.Fatal("a damaged event was read")
		}
		if _, err := decodeEvent(value[:rapid.IntRange(0, len(value)-1).Draw(t, "cut")]); err == nil {
			t.Fatal("an event that is cut short was read")
		}
	})
}

// What follows from events is what a list of all failures says, whenever it is
// looked at.
func TestBlockStateIsWhatFailuresSay(t *testing.T) {
	const window, threshold = 10_000, 3
	type windowOf struct {
		opened, since int64
		failures      uint32
	}
	rapid.Check(t, func(t *rapid.T) {
		s := newBlockState()
		model := map[netip.Prefix]*windowOf{}
		now := int64(1_000_000)
		for revision := range int64(rapid.IntRange(1, 60).Draw(t, "events")) {
			now += rapid.Int64Range(0, window/2).Draw(t, "passes")
			at := now - rapid.Int64Range(0, 5).Draw(t, "behind") // of a replica whose clock is
			address := func() netip.Prefix {
				return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, rapid.ByteRange(1, 3).Draw(t, "address")}), 32)
			}
			if rapid.IntRange(0, 9).Draw(t, "unblocks") == 0 {
				p := address()
				w := model[p]
				_, was := s.apply(&blockEvent{time: at, unblocked: p}, revision+1)
				if want := w != nil && w.since > 0 && at-w.opened < window; was != want {
					t.Fatalf("%s was blocked: %v, expected %v", p, was, want)
				}
				delete(model, p)
				continue
			}
			e := blockEvent{time: at}
			for range rapid.IntRange(1, 4).Draw(t, "failures") {
				e.failures = append(e.failures, shared.Failure{Prefix: address(), Reason: apikey.ReasonOrigin, Threshold: threshold, Window: window * time.Millisecond})
			}
			answers, _ := s.apply(&e, revision+1)
			for i, f := range e.failures {
				w := model[f.Prefix]
				when := at
				if w != nil {
					when = max(when, w.opened)
				}
				if w == nil || when-w.opened >= window {
					w = &windowOf{opened: when}
					model[f.Prefix] = w
				}
				w.failures++
				if w.failures == threshold {
					w.since = when
				}
				a := answers[i]
				if a.Failures != w.failures || a.Blocked != (w.since > 0) || a.Age != time.Duration(when-w.opened)*time.Millisecond {
					t.Fatalf("failure of %s: %+v, expected %+v at %d", f.Prefix, a, w, when)
				}
			}
			blocked := map[netip.Prefix]bool{}
			for p, w := range model {
				if w.since > 0 && now-w.opened < window {
					blocked[p] = true
				}
			}
			told := s.after(0, now)
			for _, r := range told.Blocked {
				if !blocked[r.Prefix] {
					t.Fatalf("%s is told to be blocked", r.Prefix)
				}
				delete(blocked, r.Prefix)
			}
			for _, p := range told.Unblocked {
				if blocked[p] {
					t.Fatalf("%s is told to be unblocked", p)
				}
			}
			if len(blocked) > 0 || told.Number != told.Last || told.Last > uint64(revision+1) {
				t.Fatalf("%v are not told of in %+v", blocked, told)
			}
		}
	})
}

// There is room for so many addresses and no more; those that are blocked stay.
func TestBlockStateIsBounded(t *testing.T) {
	s := newBlockState()
	fail := func(n, times int) {
		e := blockEvent{time: 1}
		for range times {
			e.failures = append(e.failures, shared.Failure{
				Prefix:    netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32),
				Threshold: 10, Window: time.Minute,
			})
		}
		s.apply(&e, int64(n+1))
	}
	for n := range 100 {
		fail(n, 10)
	}
	for n := range 3 * mostWindows {
		fail(100+n, 1)
	}
	if len(s.windows) > mostWindows || len(s.opened) > 2*mostWindows {
		t.Errorf("%d addresses, %d in order", len(s.windows), len(s.opened))
	}
	if told := s.after(0, 1); len(told.Blocked) != 100 {
		t.Errorf("%d addresses are blocked, expected 100", len(told.Blocked))
	}
	s.forget(time.Minute.Milliseconds() + 1)
	if len(s.windows) > 0 || len(s.opened) > 0 || len(s.changes) > 0 {
		t.Errorf("%d addresses, %d in order and %d changes are left", len(s.windows), len(s.opened), len(s.changes))
	}
}
