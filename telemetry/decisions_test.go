package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reasonsIn returns the reasons of the lines of a log.
func reasonsIn(t testing.TB, log string) (all []string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var read struct{ Reason string }
		if err := json.Unmarshal([]byte(line), &read); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		all = append(all, read.Reason)
	}
	return all
}

func openLog(t testing.TB, o DecisionLogOptions) *DecisionLog {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := OpenDecisionLog(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func tell(l *DecisionLog, reasons ...apikey.Reason) {
	for _, reason := range reasons {
		l.Checked(context.Background(), decided(reason))
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestOpenDecisionLog(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		o    DecisionLogOptions
		want string
	}{
		{"nowhere", DecisionLogOptions{}, "expected a file or a writer"},
		{"both", DecisionLogOptions{Path: filepath.Join(dir, "a"), Writer: io.Discard}, "expected a file or a writer"},
		{"no folder", DecisionLogOptions{Path: filepath.Join(dir, "none", "a")}, filepath.Join(dir, "none", "a")},
		{"a folder", DecisionLogOptions{Path: dir}, dir},
	} {
		if _, err := OpenDecisionLog(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

// Lines are added to what is there, for the owner's eyes only.
func TestDecisionLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions.log")
	for range 2 {
		l := openLog(t, DecisionLogOptions{Path: path})
		tell(l, apikey.ReasonAllowed, apikey.ReasonScope)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if stats := l.Stats(); stats != (DecisionLogStats{Written: 2}) {
			t.Errorf("stats %+v", stats)
		}
	}
	if got := reasonsIn(t, readFile(t, path)); len(got) != 4 || got[3] != "scope_not_allowed" {
		t.Errorf("lines %q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestDecisionLogSelects(t *testing.T) {
	const n = 4000
	for _, c := range []struct {
		name        string
		o           DecisionLogOptions
		least, most int
	}{
		{"all", DecisionLogOptions{}, n, n},
		{"denials only", DecisionLogOptions{DenialsOnly: true, OneIn: 4}, 0, 0},
		{"one in four", DecisionLogOptions{OneIn: 4}, n / 8, n / 2}, // 36 standard deviations
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			c.o.Writer = &out
			l := openLog(t, c.o)
			for range n {
				tell(l, apikey.ReasonAllowed)
			}
			tell(l, apikey.ReasonScope)
			l.Checked(t.Context(), extauthz.Checked{Err: context.Canceled})
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			text := out.String()
			if got := strings.Count(text, `"allowed"`) / 2; got < c.least || got > c.most {
				t.Errorf("%d allowed Checks, want %d to %d", got, c.least, c.most)
			}
			if strings.Count(text, `"denied"`) != 1 || strings.Count(text, `"error"`) < 1 {
				t.Errorf("a denial or an error is missing")
			}
			if got := strings.Count(text, `"one_in":4`); c.o.OneIn == 4 && got != strings.Count(text, `"allowed"`)/2 || c.o.OneIn == 0 && got != 0 {
				t.Errorf("%d lines say that they stand for others", got)
			}
		})
	}
}

func TestSetSampling(t *testing.T) {
	var out bytes.Buffer
	l := openLog(t, DecisionLogOptions{Writer: &out, DenialsOnly: true})
	tell(l, apikey.ReasonAllowed)
	l.SetSampling(false, 0)
	tell(l, apikey.ReasonAllowed)
	l.SetSampling(true, 1)
	tell(l, apikey.ReasonAllowed, apikey.ReasonScope)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := reasonsIn(t, out.String()); !slices.Equal(got, []string{"allowed", "scope_not_allowed"}) {
		t.Errorf("lines %q", got)
	}
}

// What waits beyond the bound is dropped whole, and counted.
func TestDecisionLogDrops(t *testing.T) {
	var out bytes.Buffer
	one := len(appendDecision(nil, new(decided(apikey.ReasonScope)), 1))
	l := openLog(t, DecisionLogOptions{Writer: &out, BufferBytes: 3*one + one/2})
	tell(l, apikey.ReasonScope, apikey.ReasonScope, apikey.ReasonScope, apikey.ReasonScope, apikey.ReasonScope)
	if stats := l.Stats(); stats.Dropped != 2 || stats.Waiting != 3*one {
		t.Errorf("stats %+v", stats)
	}
	l.flush()
	tell(l, apikey.ReasonScope)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := reasonsIn(t, out.String()); len(got) != 4 {
		t.Errorf("%d lines", len(got))
	}
}

// stuckWriter takes nothing until it is let go.
type stuckWriter struct {
	entered, release chan struct{}
	bytes.Buffer
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	w.entered <- struct{}{}
	<-w.release
	return w.Buffer.Write(p)
}

// While the disk is stuck Checks go on, and what was written in the end is
// whole.
func TestDecisionLogOfAStuckDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuckWriter{entered: make(chan struct{}, 10), release: make(chan struct{})}
		l := openLog(t, DecisionLogOptions{Writer: w, BufferBytes: 1000})
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- l.Run(ctx) }()
		tell(l, apikey.ReasonScope)
		<-w.entered
		for range 100 {
			tell(l, apikey.ReasonOrigin) // would deadlock if it waited
		}
		dropped := l.Stats().Dropped
		if dropped == 0 {
			t.Error("nothing was dropped")
		}
		close(w.release)
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if got := reasonsIn(t, w.String()); len(got) != 101-int(dropped) || got[0] != "scope_not_allowed" {
			t.Errorf("%d lines, and %d dropped", len(got), dropped)
		}
	})
}

// A disk that is stuck for good does not keep the service from stopping.
func TestDecisionLogStopsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuckWriter{entered: make(chan struct{}, 10), release: make(chan struct{})}
		l := openLog(t, DecisionLogOptions{Writer: w})
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- l.Run(ctx) }()
		tell(l, apikey.ReasonScope)
		<-w.entered
		start := time.Now()
		stop()
		if err := <-ran; err == nil || time.Since(start) != logGrace {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		close(w.release)
	})
}

// Lines are written a moment later without being asked for.
func TestDecisionLogRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := openLog(t, DecisionLogOptions{Writer: &out})
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- l.Run(ctx) }()
		for range 3 {
			tell(l, apikey.ReasonScope)
			time.Sleep(logInterval + 1)
			synctest.Wait()
			if stats := l.Stats(); stats.Waiting != 0 {
				t.Errorf("%+v", stats)
			}
		}
		tell(l, apikey.ReasonScope)
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if got := reasonsIn(t, out.String()); len(got) != 4 {
			t.Errorf("%d lines", len(got))
		}
	})
}

// Whoever logs at the same time tears no line.
func TestDecisionLogConcurrently(t *testing.T) {
	const workers, each = 8, 500
	var out bytes.Buffer
	l := openLog(t, DecisionLogOptions{Writer: &out})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- l.Run(ctx) }()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				tell(l, apikey.ReasonScope)
			}
		})
	}
	wg.Wait()
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if got := reasonsIn(t, out.String()); len(got) != workers*each {
		t.Errorf("%d lines, want %d", len(got), workers*each)
	}
}

func BenchmarkDecisionLog(b *testing.B) {
	l := openLog(b, DecisionLogOptions{Writer: io.Discard, BufferBytes: 1 << 30})
	check := decided(apikey.ReasonAllowed)
	check.Key = &apikey.Key{ID: 7, Name: "web"}
	check.Method, check.Path, check.Host, check.RequestID = "GET", "/api/tokens/", "api.example.io", "11112222-3333-4444-5555-666677778888"
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		l.Checked(b.Context(), check)
		if n++; n%1000 == 0 {
			l.flush()
		}
	}
}
