package lease_test

import (
	"testing"

	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/extauthz/limit/lease/enginetest"
)

func TestMemory(t *testing.T) {
	enginetest.Run(t, func(*testing.T) lease.Engine { return &lease.Memory{} })
}
