package redis_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block/shared/backendtest"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/extauthz/limit/lease/enginetest"
	"github.com/tokenkithq/authz/extauthz/limit/redis"
	"github.com/tokenkithq/authz/internal/redistest"
)

func TestSettings(t *testing.T) {
	tests := []struct {
		name, refused string // by what words; empty: accepted
		settings      []string
		options       redis.Options
		warned        string
	}{
		{name: "exact", settings: exact},
		{name: "no journal", refused: "appendonly: expected yes"},
		{name: "a journal that is a second late", refused: "appendfsync: expected always", settings: []string{"--appendonly", "yes"}},
		{name: "not during rewrites", refused: "no-appendfsync-on-rewrite: expected no", settings: slices.Concat(exact, []string{"--no-appendfsync-on-rewrite", "yes"})},
		{name: "forgets keys", refused: "maxmemory-policy: expected noeviction, got allkeys-lru", settings: slices.Concat(exact, []string{"--maxmemory-policy", "allkeys-lru"})},
		{name: "loss allowed", options: redis.Options{AllowLoss: true}, warned: "appendonly: expected yes"},
		{name: "replicas that are not there", options: redis.Options{Replicas: 2}, warned: "2 replicas must have a grant, but 0 are connected"},
		{name: "CONFIG is forbidden", settings: []string{"--rename-command", "CONFIG", ""}, warned: "settings cannot be seen"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := redistest.Start(t, tt.settings...)
			var log strings.Builder
			tt.options.Addresses = []string{s.Address}
			tt.options.Logger = slog.New(slog.NewTextHandler(&log, nil))
			client, err := redis.Open(t.Context(), tt.options)
			if err == nil {
				client.Close()
			}
			if tt.refused == "" && err != nil || tt.refused != "" && (!errors.Is(err, redis.ErrSettings) || !strings.Contains(err.Error(), tt.refused)) {
				t.Errorf("got %v, expected it to be refused for %q", err, tt.refused)
			}
			if !strings.Contains(log.String(), tt.warned) || tt.warned == "" && log.String() != "" {
				t.Errorf("logged %q, expected %q", log.String(), tt.warned)
			}
		})
	}
}

// A server whose settings were changed is not used after its restart.
func TestSettingsChange(t *testing.T) {
	s := redistest.Start(t, exact...)
	client := open(t, redis.Options{Addresses: []string{s.Address}})
	request := lease.Request{Key: 1, Limit: 10, Tokens: 1, Span: lease.MaxSpan, Lease: lease.ID{Number: 1}}
	ask := func() error {
		grants := make([]lease.Grant, 1)
		request.Lease.Number++
		return errors.Join(client.Exchange(t.Context(), []lease.Request{request}, grants), grants[0].Err)
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	s.Kill(t)
	s.Start(t, "--appendfsync", "everysec")
	var err error
	backendtest.Eventually(t, "the server answers again", func() bool {
		err = ask()
		return err == nil || errors.Is(err, redis.ErrSettings)
	})
	if err == nil || !strings.Contains(err.Error(), "appendfsync") {
		t.Errorf("after the restart: %v", err)
	}
}

func TestPasswordIsNotShown(t *testing.T) {
	s := redistest.Start(t, slices.Concat(exact, []string{"--requirepass", "right-secret"})...)
	open(t, redis.Options{Addresses: []string{s.Address}, Password: "right-secret"})
	o := redis.Options{Addresses: []string{s.Address}, Username: "somebody", Password: "wrong-secret", SentinelPassword: "wrong-secret"}
	_, err := redis.Open(t.Context(), o)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("with a wrong password: %v", err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("options", "redis", o)
	if strings.Contains(log.String(), "secret") || !strings.Contains(log.String(), s.Address) {
		t.Errorf("logged %s", log.String())
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, o := range map[string]redis.Options{
		"no address": {}, "no port": {Addresses: []string{"localhost"}}, "negative replicas": {Addresses: []string{"localhost:1"}, Replicas: -1},
		"a Cluster with Sentinel": {Addresses: []string{"localhost:1"}, Cluster: true, Master: "m"},
		"a database of a Cluster": {Addresses: []string{"localhost:1"}, Cluster: true, Database: 1},
		"nobody listens":          {Addresses: []string{redistest.FreeAddress(t)}},
	} {
		client, err := redis.Open(t.Context(), o)
		if err == nil {
			client.Close()
			t.Errorf("%s was accepted", name)
		}
	}
}

// A Cluster of two masters, one of which has a replica.
func TestCluster(t *testing.T) {
	slow(t)
	settings := []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"}
	a, b, c := redistest.Start(t, settings...), redistest.Start(t, settings...), redistest.Start(t, settings...)
	expectOK(t, a, "CLUSTER", "ADDSLOTSRANGE", "0", "8191")
	expectOK(t, b, "CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
	for _, other := range []*redistest.Server{b, c} {
		expectOK(t, a, "CLUSTER", "MEET", "127.0.0.1", other.Port())
	}
	backendtest.Eventually(t, "the nodes know each other", func() bool {
		return !slices.ContainsFunc([]*redistest.Server{a, b, c}, func(s *redistest.Server) bool {
			info := s.Says("CLUSTER", "INFO")
			return !strings.Contains(info, "cluster_known_nodes:3") || !strings.Contains(info, "cluster_slots_ok:16384") || !strings.Contains(info, "cluster_state:ok")
		})
	})
	t.Run("without replicas", func(t *testing.T) {
		client := open(t, redis.Options{Addresses: []string{a.Address}, Cluster: true, AllowLoss: true})
		enginetest.Run(t, func(*testing.T) lease.Engine { return client })
	})
	id := strings.Fields(a.Says("CLUSTER", "MYID"))[1]
	expectOK(t, c, "CLUSTER", "REPLICATE", id)
	backendtest.Eventually(t, "the replica is in step", c.Copies)
	t.Run("with replicas", func(t *testing.T) {
		client := open(t, redis.Options{Addresses: []string{a.Address}, Cluster: true, Replicas: 1})
		worked, failed := 0, 0
		for id := range apikey.KeyID(40) {
			grants := make([]lease.Grant, 1)
			ctx, cancel := context.WithTimeout(t.Context(), 200_000_000)
			err := client.Exchange(ctx, []lease.Request{{Key: id, Limit: 10, Tokens: 1, Span: lease.MaxSpan, Lease: lease.ID{Number: 1}}}, grants)
			cancel()
			if errors.Join(err, grants[0].Err) == nil {
				worked++
			} else {
				failed++
			}
		}
		// Only the first master has a replica that can have its grants.
		if worked == 0 || failed == 0 {
			t.Errorf("%d grants were used and %d were not", worked, failed)
		}
	})
}
