package redis_test

import (
	"testing"

	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/extauthz/limit/lease/enginetest"
	"github.com/tokenkithq/authz/extauthz/limit/redis"
)

func TestEngine(t *testing.T) {
	s := newServer(t)
	client := open(t, redis.Options{Addresses: []string{s.address}, AllowLoss: true})
	enginetest.Run(t, func(*testing.T) lease.Engine { return client })
}
