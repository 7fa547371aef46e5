package extauthz

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tokenkithq/authz/apikey"
)

// observed keeps what an observer was told.
type observed []Checked

func (o *observed) Checked(_ context.Context, c Checked) { *o = append(*o, c) }

// An observer hears of each Check once, of what it asked and of what it came
// to, and not of its key or query.
func TestObserver(t *testing.T) {
	text := secretText(t, 1)
	for _, c := range []struct {
		name       string
		key        string
		fault      error
		extensions map[string]string
		want       apikey.Reason
		keyID      apikey.KeyID
		counted    bool
		code       codes.Code
		unobserved bool
	}{
		{name: "allowed", key: text, want: apikey.ReasonAllowed, keyID: 7},
		{name: "denied", key: secretText(t, 2), want: apikey.ReasonUnknownKey, counted: true},
		{name: "no key", want: apikey.ReasonMissingKey},
		{name: "scope", key: text, extensions: map[string]string{ScopeExtension: "write"}, want: apikey.ReasonAllowed, keyID: 7},
		{name: "store down", key: text, fault: errors.New("no"), code: codes.Unavailable},
		{name: "bad route", key: text, extensions: map[string]string{CostExtension: "none"}, code: codes.InvalidArgument},
		{name: "explained", key: text, extensions: map[string]string{ExplainExtension: "true"}, unobserved: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var heard observed
			b := newBench(t, Options{Observer: &heard, ObserveRequests: true}, AuthorizerOptions{})
			b.keys.add(t, text, apikey.Key{ID: 7})
			b.keys.err = c.fault
			headers := []pair{{"x-request-id", "r-1"}}
			if c.key != "" {
				headers = append(headers, pair{"api-key", c.key})
			}
			check := routed(c.extensions, "PUT", "/things?api-key="+text, headers...)
			check.Attributes.Request.Http.Host = "api.example.io"
			_, err := b.Check(t.Context(), check)
			if status.Code(err) != c.code {
				t.Fatalf("error %v, want code %v", err, c.code)
			}
			if c.unobserved {
				if len(heard) > 0 {
					t.Errorf("heard %+v", heard)
				}
				return
			}
			if len(heard) != 1 {
				t.Fatalf("heard %d times", len(heard))
			}
			got := heard[0]
			if got.Reason != c.want || status.Code(got.Err) != c.code || got.Counted != c.counted || !got.At.Equal(b.now) {
				t.Errorf("heard %+v", got)
			}
			if id := keyIDOf(got.Key); id != c.keyID {
				t.Errorf("heard of key %d, want %d", id, c.keyID)
			}
			if got.Method != "PUT" || got.Path != "/things" || got.Host != "api.example.io" || got.RequestID != "r-1" || got.Address != netip.MustParseAddr("192.0.2.1") {
				t.Errorf("heard %+v", got)
			}
			if c.code == codes.OK && got.RequiredScope != c.extensions[ScopeExtension] {
				t.Errorf("heard of scope %q", got.RequiredScope)
			}
			if all := fmt.Sprintf("%+v", got); strings.Contains(all, c.key) && c.key != "" {
				t.Errorf("the key was told: %s", all)
			}
		})
	}
}

func keyIDOf(key *apikey.Key) apikey.KeyID {
	if key == nil {
		return 0
	}
	return key.ID
}

// What nobody wants to hear is not read.
func TestObserverOfDecisionsOnly(t *testing.T) {
	var heard observed
	b := newBench(t, Options{Observer: &heard}, AuthorizerOptions{})
	check := routed(nil, "GET", "/", pair{"x-request-id", "r-1"})
	check.Attributes.Request.Http.Host = "api.example.io"
	b.check(t, check)
	if len(heard) != 1 || heard[0].Host != "" || heard[0].RequestID != "" {
		t.Errorf("heard %+v", heard)
	}
	var v view
	var reader wireReader
	if err := reader.read(&v, wireOf(t, check), checkShape(t), &b.parser.wanted); err != nil || v.host != "" {
		t.Errorf("read host %q from the wire, %v", v.host, err)
	}
}

// slowKeys takes its time by the clock of the bench.
type slowKeys struct{ b *bench }

func (s slowKeys) FindKey(context.Context, apikey.Hash) (*apikey.Key, error) {
	s.b.now = s.b.now.Add(3 * time.Millisecond)
	return nil, apikey.ErrNotFound
}

func TestObservedDuration(t *testing.T) {
	var heard observed
	b := newBench(t, Options{Observer: &heard}, AuthorizerOptions{})
	b.authorizer.keys = slowKeys{b}
	b.check(t, routed(nil, "GET", "/", pair{"api-key", secretText(t, 1)}))
	if len(heard) != 1 || heard[0].Duration != 3*time.Millisecond {
		t.Errorf("heard %+v", heard)
	}
}

// Denials are logged up to a number a second for each reason, with how many
// were not.
func TestDenialsAreSampled(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{LoggedPerSecond: 2, Uncounted: CountedReasons()})
	deny := func(n int, headers ...pair) {
		for range n {
			b.check(t, routed(nil, "GET", "/", headers...))
		}
	}
	b.now = b.now.Truncate(time.Second)
	deny(5)
	deny(1, pair{"api-key", "nonsense"})
	if n := strings.Count(b.logs.String(), "reason=missing_key"); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
	if n := strings.Count(b.logs.String(), "reason=malformed_key"); n != 1 {
		t.Errorf("%d lines of another reason, want 1", n)
	}
	b.logs.Reset()
	b.now = b.now.Add(time.Second)
	deny(2)
	lines := strings.Split(strings.TrimSpace(b.logs.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "withheld=3") || strings.Contains(lines[1], "withheld") {
		t.Errorf("a second later: %q", lines)
	}
	b.logs.Reset()
	b.authorizer.SetLoggedPerSecond(-1)
	deny(5)
	if n := strings.Count(b.logs.String(), "reason=missing_key"); n != 5 {
		t.Errorf("%d lines once all are asked for, want 5", n)
	}
}

func TestFaultsAreSampled(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{LoggedPerSecond: 1})
	b.keys.err = errors.New("no")
	for range 4 {
		if _, err := b.Check(t.Context(), routed(nil, "GET", "/", pair{"api-key", secretText(t, 1)})); err == nil {
			t.Fatal("expected an error")
		}
	}
	if n := strings.Count(b.logs.String(), "check failed"); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
	b.authorizer.SetLoggedPerSecond(2)
	for range 2 {
		if _, err := b.Check(t.Context(), routed(nil, "GET", "/", pair{"api-key", secretText(t, 1)})); err == nil {
			t.Fatal("expected an error")
		}
	}
	if n := strings.Count(b.logs.String(), "check failed"); n != 2 {
		t.Errorf("%d lines once two are asked for, want 2", n)
	}
}

// noted keeps the last Check that it was told of.
type noted struct{ last Checked }

func (n *noted) Checked(_ context.Context, c Checked) { n.last = c }

// To be observed costs no allocation.
func TestObserverAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget on purpose under the race detector")
	}
	m, ctx := newMeasured(t), t.Context()
	before := testing.AllocsPerRun(1000, func() { m.handle(t, ctx) })
	observer := &noted{}
	m.observer = observer
	if after := testing.AllocsPerRun(1000, func() { m.handle(t, ctx) }); after != before {
		t.Errorf("%v allocations a Check, and %v without an observer", after, before)
	}
	if !observer.last.Allowed() {
		t.Errorf("observed %+v", observer.last)
	}
}
