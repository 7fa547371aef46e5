package redis_test

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/tokenkithq/authz/extauthz/limit/redis"
	"github.com/tokenkithq/authz/internal/redistest"
)

// exact are the settings of a server that keeps what it granted.
var exact = []string{"--appendonly", "yes", "--appendfsync", "always"}

// expectOK has a server do something.
func expectOK(t testing.TB, s *redistest.Server, command ...string) {
	t.Helper()
	if answer := s.Says(command...); answer != "+OK\r\n" {
		t.Fatalf("%v: %s", command, answer)
	}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func open(t testing.TB, o redis.Options) *redis.Client {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet()
	}
	client, err := redis.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}
