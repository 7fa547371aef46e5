package bolt_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

func appendEvents(t testing.TB, s *bolt.Store, from, until int) {
	t.Helper()
	for n := from; n < until; n++ {
		must(t, s.AppendEvent(context.Background(), &store.Event{By: by, Action: store.ActionLoginFail, TargetName: fmt.Sprint(n)}))
	}
}

// The audit log keeps its newest events, and shrinks by and by where it may
// keep fewer than before.
func TestAuditIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	open := func(events int) *bolt.Store {
		s, err := bolt.Open(t.Context(), path, bolt.Options{AuditEvents: events})
		must(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	holds := func(s *bolt.Store, newest, count int) {
		t.Helper()
		events, err := s.ListEvents(t.Context(), store.EventFilter{Limit: store.MaxEvents})
		must(t, err)
		if len(events) != count {
			t.Fatalf("%d events, want %d", len(events), count)
		}
		for i, event := range events {
			if event.TargetName != fmt.Sprint(newest-i) || event.ID != uint64(newest-i+1) {
				t.Fatalf("event %d is %s with id %d, want %d", i, event.TargetName, event.ID, newest-i)
			}
		}
	}
	s := open(200)
	appendEvents(t, s, 0, 150)
	holds(s, 149, 150)
	appendEvents(t, s, 150, 201)
	holds(s, 200, 200)
	appendEvents(t, s, 201, 350)
	holds(s, 349, 200)
	must(t, s.Close())
	s = open(10)
	holds(s, 349, 200)
	appendEvents(t, s, 350, 351)
	holds(s, 350, 137) // 64 fewer
	appendEvents(t, s, 351, 360)
	holds(s, 359, 10)
	must(t, s.Close())
	if report, err := bolt.Verify(t.Context(), path, bolt.Options{}); err != nil || report.Events != 10 {
		t.Errorf("%+v, %v", report, err)
	}
}

// BenchmarkListEvents reads a full log: the first and last page, and all of it
// for a filter that describes nothing.
func BenchmarkListEvents(b *testing.B) {
	s := openAt(b, withEvents(b, bolt.DefaultAuditEvents))
	for name, filter := range map[string]store.EventFilter{
		"newest page": {}, "oldest page": {Before: 101}, "nothing": {ActorName: "nobody"}, "one key, early": {TargetKind: store.TargetKey, TargetID: 50},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.ListEvents(b.Context(), filter); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
