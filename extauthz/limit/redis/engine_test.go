package redis_test

import (
	"testing"

	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/extauthz/limit/lease/enginetest"
	"github.com/tokenkithq/authz/extauthz/limit/redis"
	"github.com/tokenkithq/authz/internal/redistest"
)

func TestEngine(t *testing.T) {
	s := redistest.Start(t)
	client := open(t, redis.Options{Addresses: []string{s.Address}, AllowLoss: true})
	enginetest.Run(t, func(*testing.T) lease.Engine { return client })
}
