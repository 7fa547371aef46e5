package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/timing"
)

// How long the service takes to refuse keys that never were, keys that were
// deleted and what is no key, in turns, and how far apart they are. Run with
// -benchtime 100000x; it is not judged here, since a machine has its moods.
func BenchmarkRefusals(b *testing.B) {
	s := startServer(b, filepath.Join(b.TempDir(), "data"), "--block-never", "0.0.0.0/0", "--log-denials", "1")
	command(b, testPassword+"\n", "user", "add", "alice", "--data", s.data)
	const many = 20
	kinds := []string{"new", "unknown", "deleted", "malformed"}
	texts := map[string][]string{}
	for i := range many {
		key := createKeyOffline(b, s.data, fmt.Sprint("key", i), "--owner", "alice", "--strict")
		command(b, "", "key", "delete", fmt.Sprint(key.ID), "--data", s.data)
		texts["deleted"] = append(texts["deleted"], key.Key)
		texts["unknown"] = append(texts["unknown"], newKeyText(b))
		texts["malformed"] = append(texts["malformed"], "tk_0"+newKeyText(b)[4:])
	}
	checks := newGRPCClient(b, s)
	took := map[string][]time.Duration{}
	ask := func(text string) time.Duration {
		request := (&checkRequest{header: "api-key", from: "x-client-ip", address: "192.0.2.1", method: "GET", path: "/things"}).message(text)
		request.Attributes.ContextExtensions = nil
		start := time.Now()
		response, err := checks.Check(b.Context(), request)
		elapsed := time.Since(start)
		if err != nil || response.GetDeniedResponse().GetStatus().GetCode() != 401 {
			b.Fatalf("%v, %v", response, err)
		}
		return elapsed
	}
	for range b.N {
		mathrand.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		for _, kind := range kinds {
			text := ""
			if kind == "new" {
				text = newKeyText(b)
			} else {
				text = texts[kind][mathrand.IntN(many)]
			}
			took[kind] = append(took[kind], ask(text))
		}
	}
	for _, pair := range [][2]string{{"unknown", "deleted"}, {"unknown", "new"}, {"unknown", "malformed"}} {
		c := timing.Compare(took[pair[0]], took[pair[1]])
		name := pair[0] + "-" + pair[1]
		b.ReportMetric(c.Distance, name+"-distance")
		b.ReportMetric(float64(c.Medians[1]-c.Medians[0]), name+"-ns")
		result, _ := json.Marshal(c)
		b.Logf("%s and %s: %s", pair[0], pair[1], result)
	}
}

func newKeyText(tb testing.TB) string {
	tb.Helper()
	secret, err := apikey.NewSecret(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return secret.Reveal()
}
