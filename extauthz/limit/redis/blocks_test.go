package redis_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/block/shared"
	"github.com/tokenkithq/authz/extauthz/block/shared/backendtest"
	"github.com/tokenkithq/authz/extauthz/limit/redis"
	"github.com/tokenkithq/authz/internal/redistest"
)

func blocksServer(t *testing.T) (backendtest.Server, *redistest.Server) {
	t.Helper()
	s := redistest.Start(t)
	return backendtest.Server{
		Open: func(t testing.TB) shared.Backend {
			return open(t, redis.Options{Addresses: []string{s.Address}, AllowLoss: true}).Blocks()
		},
		Stop: func(t testing.TB) { s.Kill(t) },
	}, s
}

func TestBlocks(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backendtest.Server {
		s, _ := blocksServer(t)
		return s
	})
}

// A server that forgot its changes numbers them from the start: they are heard
// of all the same.
func TestServerForgotBlocks(t *testing.T) {
	server, s := blocksServer(t)
	tables := backendtest.Replicas(t, server, 2, block.Options{})
	block := func(last byte) {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, last})
		for range 10 {
			tables[0].Failed(addr, apikey.ReasonUnknownKey, time.Now())
		}
		backendtest.Eventually(t, "the other replica has heard of it", func() bool { return backendtest.IsBlocked(tables[1], addr) })
	}
	block(1)
	block(2)
	expectOK(t, s, "FLUSHALL")
	block(3)
	if !backendtest.IsBlocked(tables[1], netip.AddrFrom4([4]byte{192, 0, 2, 1})) {
		t.Error("what was known to be blocked is not any more")
	}
}
