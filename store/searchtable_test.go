package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/apikey"
)

// The table stays in proportion to what it holds, however often that changes.
func TestSearchTableStaysSmall(t *testing.T) {
	var table searchTable
	const keys = 2000
	for round := range 60 {
		for n := range keys {
			table.put(&apikey.Key{ID: apikey.KeyID(n + 1), Name: fmt.Sprintf("name %d of round %d", n, round), Notes: strings.Repeat("x", 100)})
		}
	}
	small(t, &table, keys)
	for round := range 60 {
		for n := range keys {
			table.put(&apikey.Key{ID: apikey.KeyID(keys + round*keys + n + 1), Name: "short-lived"})
			table.remove(apikey.KeyID(keys + round*keys + n + 1))
		}
	}
	small(t, &table, keys)
	if _, total := table.search(&KeyFilter{}); total != keys {
		t.Errorf("%d keys are found, want %d", total, keys)
	}
	if _, total := table.search(&KeyFilter{Search: "of round 59"}); total != keys {
		t.Errorf("%d keys are found by their last name, want %d", total, keys)
	}
	if _, total := table.search(&KeyFilter{Search: "of round 58"}); total != 0 {
		t.Errorf("%d keys are found by a name that they had", total)
	}
}

func small(t *testing.T, table *searchTable, keys int) {
	t.Helper()
	size := 0
	for _, chunk := range table.chunks {
		size += cap(chunk)
	}
	if held := keys * 130; size > 8*held {
		t.Errorf("%d bytes hold texts of about %d", size, held)
	}
	if len(table.rows) > 2*keys {
		t.Errorf("%d rows hold %d keys", len(table.rows), keys)
	}
}
