package boltfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var craftedOptions = Options{Kind: "crafted", Version: 2, Buckets: []string{"deep", "large", "small"}}

// crafted is a whole file that tests change by hand.
type crafted []byte

func newCrafted(t *testing.T) crafted {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	f, err := Open(t.Context(), path, craftedOptions)
	if err != nil {
		t.Fatal(err)
	}
	// Two rounds, so that there are free pages between those in use.
	for round := range 2 {
		err := f.Update(t.Context(), func(tx *Tx) error {
			for i := range 600 {
				value := bytes.Repeat([]byte{byte(round)}, 50)
				if i == 300 {
					value = make([]byte, 3*pageSize)
				}
				if err := tx.Put("large", fmt.Appendf(nil, "key %04d", 2*i), value); err != nil {
					return err
				}
			}
			for i := range 60 { // long keys make a tree of three levels
				if err := tx.Put("deep", fmt.Appendf(nil, "%01000d", 2*i), nil); err != nil {
					return err
				}
			}
			return tx.Put("small", []byte("key"), []byte("value"))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (c crafted) page(id uint64) page { return page(c[id*pageSize:]) }

func (c crafted) meta(t *testing.T) meta {
	t.Helper()
	newest := meta{}
	for i := range uint64(2) {
		m, err := readMeta(c.page(i), i)
		if err != nil {
			t.Fatal(err)
		}
		if m.transaction > newest.transaction {
			newest = m
		}
	}
	return newest
}

// newestMeta changes a field of the newest meta page and gives it a checksum.
func (c crafted) newestMeta(t *testing.T, offset int, value uint64) {
	t.Helper()
	m := c.meta(t)
	p := c.page(m.transaction % 2)
	order.PutUint64(p[headerSize+offset:], value)
	writeMeta(p, order.Uint64(p[headerSize+48:]))
	order.PutUint64(p, m.transaction%2)
}

// bucket returns the header of a bucket, and the page after it.
func (c crafted) bucket(t *testing.T, name string) page {
	t.Helper()
	root := c.page(c.meta(t).root)
	for i := range root.count() {
		if e, ok := root.leafEntry(i); ok && string(e.key) == name {
			return page(e.value)
		}
	}
	t.Fatalf("no bucket %q", name)
	return nil
}

// branch returns the root page of the large bucket, which is a branch.
func (c crafted) branch(t *testing.T) page {
	t.Helper()
	return c.branchOf(t, "large")
}

func (c crafted) branchOf(t *testing.T, bucket string) page {
	t.Helper()
	p := c.page(order.Uint64(c.bucket(t, bucket)))
	if p.flags() != flagBranch || p.count() < 2 {
		t.Fatalf("a %s page with %d entries", p.kind(), p.count())
	}
	return p
}

func (c crafted) leaf(t *testing.T, i int) page {
	t.Helper()
	e, _ := c.branch(t).branchEntry(i)
	return c.page(e.child)
}
