package main

import (
	"context"
	"net/netip"
	"time"

	"github.com/tokenkithq/authz/admin"
)

// blocks shows the block table to the admin API.
type blocks struct{ service *service }

func (b blocks) ListBlocks(context.Context) ([]admin.Block, error) {
	now := time.Now()
	entries := b.service.table.List(now)
	list := make([]admin.Block, len(entries))
	for i, e := range entries {
		list[i] = admin.Block{Prefix: e.Prefix, Failures: int(e.Failures), Reason: e.LastReason, Since: e.Since, Until: now.Add(e.Left)}
	}
	return list, nil
}

func (b blocks) Unblock(ctx context.Context, addr netip.Addr) (bool, error) {
	if shared := b.service.sharedBlocks; shared != nil {
		return shared.Unblock(ctx, addr, time.Now())
	}
	return b.service.table.Unblock(addr, time.Now()), nil
}

// adminUsage is what counts calls, as the admin API knows it: nil where nothing
// does.
func (v *service) adminUsage() admin.Usage {
	if v.usage == nil {
		return nil
	}
	return v.usage
}
