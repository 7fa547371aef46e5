package block

import (
	"context"
	"net/netip"

	"github.com/tokenkithq/authz/apikey"
)

// Save does at once what Run does now and then.
func (t *Table) Save(ctx context.Context) error { return t.save(ctx, false) }

// Part says in which of the table's parts an address is.
func (t *Table) Part(addr netip.Addr) int {
	return int(t.hasher.hash(idOf(apikey.CanonicalAddress(addr))) >> 56)
}
