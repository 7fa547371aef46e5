//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/bench/load"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

func TestSpread(t *testing.T) {
	tests := []struct {
		name   string
		values []float64
		want   spread
	}{
		{"one", []float64{3}, spread{3, 3, 3}},
		{"odd", []float64{9, 1, 4}, spread{4, 1, 9}},
		{"even", []float64{9, 1, 4, 5}, spread{4.5, 1, 9}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := spreadOf(test.values); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	if got := spreadOf(nil); !math.IsNaN(got.median) {
		t.Errorf("got %v of nothing, want no number", got)
	}
}

// A ratio compares within rounds: a machine that is slow in one of them is slow
// for both.
func TestRatio(t *testing.T) {
	lineOf := func(rates ...int) *line {
		at := &line{}
		for _, rate := range rates {
			at.results = append(at.results, &load.Result{Requests: rate, Elapsed: time.Second})
		}
		return at
	}
	got := ratio(perSecond, lineOf(110, 55, 400), lineOf(100, 50, 200))
	if want := (spread{1.1, 1.1, 2}); math.Abs(got.median-want.median) > 1e-9 || math.Abs(got.low-want.low) > 1e-9 || got.high != want.high {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFullFrom(t *testing.T) {
	if got := fullFrom([]int{10, 89, 90, 100}, 100); got != 3 {
		t.Errorf("full speed from second %d, want 3", got)
	}
	if got := fullFrom([]int{10, 20}, 100); got != 3 {
		t.Errorf("full speed from second %d, want 3: never", got)
	}
}

func TestSettings(t *testing.T) {
	short, err := parseSettings([]string{"-short"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(short.parts, []string{"compare"}) || short.rounds < 5 || short.limit > 50*time.Second {
		t.Errorf("a short run is %+v", short)
	}
	whole, err := parseSettings(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(whole.parts) != len(parts()) {
		t.Errorf("a whole run has %v", whole.parts)
	}
	for _, args := range [][]string{{"-what", "nothing"}, {"extra"}} {
		if _, err := parseSettings(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

// Every configuration that is measured is one that Envoy's own rules accept.
func TestBootstrap(t *testing.T) {
	const address = "127.0.0.1:9001"
	var routes []route
	for _, s := range studyRoutes(address, address, address, "/run/authz.sock") {
		routes = append(routes, s.route)
	}
	native, err := nativeKeys(&keyStore{secrets: os.DevNull})
	if err != nil {
		t.Fatal(err)
	}
	routes = append(routes, route{name: "native", connections: instead("envoy.filters.http.api_key_auth", native)})
	bootstrap, err := bootstrapOf(routes)
	if err != nil {
		t.Fatal(err)
	}
	if err := bootstrap.ValidateAll(); err != nil {
		t.Error(err)
	}
	names := map[string]bool{}
	for _, l := range bootstrap.GetStaticResources().GetListeners() {
		names[l.GetName()] = true
	}
	for _, r := range routes {
		if !names[r.name] {
			t.Errorf("route %q has no listener", r.name)
		}
	}
}

func TestKeyStore(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	ctx := context.Background()
	imports := 0
	add := func(dir string, export io.Reader) error {
		imports++
		keys, err := bolt.Open(ctx, filepath.Join(dir, "keys.db"), bolt.Options{})
		if err != nil {
			return err
		}
		_, err = keys.Import(ctx, export, store.Actor{Kind: store.ActorSystem})
		return errors.Join(err, keys.Close())
	}
	compact := func(dir string) error {
		_, _, err := bolt.Compact(ctx, filepath.Join(dir, "keys.db"), bolt.Options{})
		return err
	}
	made, err := keepKeyStore(30, true, add, compact)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(made.store)
	if err != nil {
		t.Fatal(err)
	}
	again, err := keepKeyStore(30, true, add, compact)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(again.store); err != nil || !os.SameFile(before, after) || imports != 1 {
		t.Errorf("a store was made anew: %d imports, %v", imports, err)
	}
	data := t.TempDir()
	if err := made.copyTo(data); err != nil {
		t.Fatal(err)
	}
	keys, err := bolt.Open(ctx, filepath.Join(data, "keys.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	secrets, err := os.ReadFile(made.secrets)
	if err != nil {
		t.Fatal(err)
	}
	if len(secrets) != 30*apikey.SecretLength {
		t.Fatalf("%d bytes of secrets, want 30 of them", len(secrets))
	}
	for i := 0; i < len(secrets); i += apikey.SecretLength {
		secret, err := apikey.ParseSecret(string(secrets[i : i+apikey.SecretLength]))
		if err != nil {
			t.Fatal(err)
		}
		key, err := keys.FindKey(ctx, secret.Hash())
		if err != nil {
			t.Fatal(err)
		}
		if key.RateLimitPerHour != hourlyLimit {
			t.Errorf("key %d has a limit of %d", key.ID, key.RateLimitPerHour)
		}
	}
}
