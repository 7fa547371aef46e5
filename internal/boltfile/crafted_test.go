package boltfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every check of a scan notices what it is there for.
func TestCraftedDamage(t *testing.T) {
	whole := newCrafted(t)
	for _, c := range []struct {
		name, message string
		change        func(t *testing.T, c crafted)
	}{
		{"a meta page's bit", "meta page 1 fails its checksum", func(_ *testing.T, c crafted) { c.page(1)[30]++ }},
		{"a meta page's place", "another place", func(_ *testing.T, c crafted) { c.page(1)[0] = 0 }},
		{"a meta page's flags", "another place", func(_ *testing.T, c crafted) { c.page(0)[8] = flagLeaf }},
		{"both meta pages alike", "another place", func(_ *testing.T, c crafted) { copy(c[:pageSize], c[pageSize:2*pageSize]) }},
		{"meta pages far apart", "expected two that follow", func(t *testing.T, c crafted) {
			c.newestMeta(t, 48, c.meta(t).transaction+2)
		}},
		{"too many pages", "expected at least", func(t *testing.T, c crafted) { c.newestMeta(t, 40, uint64(len(c))/pageSize+1) }},
		{"too few pages", "the file has", func(t *testing.T, c crafted) { c.newestMeta(t, 40, 5) }},
		{"a root beyond the end", "the file has", func(t *testing.T, c crafted) { c.newestMeta(t, 16, 1<<40) }},
		{"a root among the meta pages", "page 1: the file has", func(t *testing.T, c crafted) { c.newestMeta(t, 16, 1) }},
		{"no free list", "the file has", func(t *testing.T, c crafted) { c.newestMeta(t, 32, 1<<64-1) }},
		{"a free list elsewhere", "used twice", func(t *testing.T, c crafted) { c.newestMeta(t, 32, c.meta(t).root) }},
		{"a free list of another kind", "expected the free list", func(t *testing.T, c crafted) {
			order.PutUint16(c.page(c.meta(t).freeList)[8:], flagLeaf)
		}},
		{"a free page that is in use", "in the free list: the file is damaged: page", func(t *testing.T, c crafted) {
			m := c.meta(t)
			list := c.page(m.freeList)
			order.PutUint16(list[10:], 1)
			order.PutUint64(list[headerSize:], m.root)
		}},
		{"free pages out of order", "free list is not in order", func(t *testing.T, c crafted) {
			list := c.page(c.meta(t).freeList)
			copy(list[headerSize+8:], list[headerSize:headerSize+8])
		}},
		{"a free meta page", "free list is not in order", func(t *testing.T, c crafted) {
			order.PutUint64(c.page(c.meta(t).freeList)[headerSize:], 1)
		}},
		{"too many free pages", "more than it has room for", func(t *testing.T, c crafted) {
			list := c.page(c.meta(t).freeList)
			order.PutUint16(list[10:], 0xffff)
			order.PutUint64(list[headerSize:], 1<<61)
		}},
		{"a page that says it is another", "that of another place", func(t *testing.T, c crafted) { c.leaf(t, 1)[0]++ }},
		{"a page of no kind", "expected a leaf or a branch", func(t *testing.T, c crafted) { c.leaf(t, 1)[8] = 0x20 }},
		{"an overflow into others", "used twice", func(t *testing.T, c crafted) { order.PutUint32(c.leaf(t, 1)[12:], 20) }},
		{"an overflow beyond the end", "the file has", func(t *testing.T, c crafted) { order.PutUint32(c.leaf(t, 1)[12:], 1<<30) }},
		{"a child used twice", "page", func(t *testing.T, c crafted) {
			b := c.branch(t)
			copy(b[headerSize+8:headerSize+16], b[headerSize+entrySize+8:])
		}},
		{"a branch in itself", "used twice", func(t *testing.T, c crafted) {
			b := c.branch(t)
			order.PutUint64(b[headerSize+8:], b.id())
		}},
		{"a child beyond the end", "the file has", func(t *testing.T, c crafted) { order.PutUint64(c.branch(t)[headerSize+8:], 1<<50) }},
		{"children swapped", "out of order", func(t *testing.T, c crafted) {
			b := c.branch(t)
			x, y := b[headerSize+8:headerSize+16], b[headerSize+entrySize+8:headerSize+entrySize+16]
			kept := slices.Clone(x)
			copy(x, y)
			copy(y, kept)
		}},
		{"a branch without entries", "without entries", func(t *testing.T, c crafted) { order.PutUint16(c.branch(t)[10:], 0) }},
		{"a branch that lost its last entry", "records", func(t *testing.T, c crafted) {
			b := c.branch(t)
			order.PutUint16(b[10:], uint16(b.count()-1))
		}},
		{"a branch key out of order", "out of order", func(t *testing.T, c crafted) {
			e, _ := c.branch(t).branchEntry(2)
			e.key[0] = 'A'
		}},
		{"a branch key between", "out of order", func(t *testing.T, c crafted) {
			e, _ := c.branch(t).branchEntry(2)
			e.key[len(e.key)-1]--
		}},
		{"a branch key between, above a branch", "out of order", func(t *testing.T, c crafted) {
			e, _ := c.branchOf(t, "deep").branchEntry(1)
			if child := c.page(e.child); child.flags() != flagBranch {
				t.Fatalf("the child is a %s page", child.kind())
			}
			e.key[len(e.key)-1]--
		}},
		{"a branch key outside", "out of order", func(t *testing.T, c crafted) { order.PutUint32(c.branch(t)[headerSize:], 1<<31) }},
		{"a leaf key out of order", "out of order", func(t *testing.T, c crafted) {
			e, _ := c.leaf(t, 1).leafEntry(2)
			e.key[0] = 'A'
		}},
		{"a leaf key beyond its branch", "out of order", func(t *testing.T, c crafted) {
			p := c.leaf(t, 1)
			e, _ := p.leafEntry(p.count() - 1)
			e.key[0] = 'z'
		}},
		{"a record outside", "out of order", func(t *testing.T, c crafted) { order.PutUint32(c.leaf(t, 1)[headerSize+12:], 1<<31) }},
		{"records beyond the page", "out of order", func(t *testing.T, c crafted) { order.PutUint16(c.leaf(t, 1)[10:], 0xffff) }},
		{"a leaf without records", "without records", func(t *testing.T, c crafted) { order.PutUint16(c.leaf(t, 1)[10:], 0) }},
		{"a record that is a bucket", "wrong type", func(t *testing.T, c crafted) { c.leaf(t, 1)[headerSize] = entryBucket }},
		{"a record of no type", "wrong type", func(t *testing.T, c crafted) { c.leaf(t, 1)[headerSize+1] = 1 }},
		{"a bucket that is a record", "wrong type", func(t *testing.T, c crafted) { c.page(c.meta(t).root)[headerSize] = 0 }},
		{"a value's bit", "fails its checksum", func(t *testing.T, c crafted) {
			e, _ := c.leaf(t, 1).leafEntry(2)
			e.value[len(e.value)-1] ^= 4
		}},
		{"a checksum's bit", "fails its checksum", func(t *testing.T, c crafted) {
			e, _ := c.leaf(t, 1).leafEntry(2)
			e.value[0] ^= 4
		}},
		{"a key's bit", "damaged", func(t *testing.T, c crafted) {
			e, _ := c.leaf(t, 1).leafEntry(1)
			e.key[len(e.key)-1] ^= 0x80
		}},
		{"two values swapped", "fails its checksum", func(t *testing.T, c crafted) {
			x, _ := c.leaf(t, 1).leafEntry(1)
			y, _ := c.leaf(t, 1).leafEntry(2)
			kept := slices.Clone(x.value)
			copy(x.value, y.value)
			copy(y.value, kept)
		}},
		{"a short record", "shorter than its checksum", func(t *testing.T, c crafted) { order.PutUint32(c.leaf(t, 1)[headerSize+12:], 3) }},
		{"an old record with its checksum", "not its latest", func(t *testing.T, c crafted) {
			e, _ := c.leaf(t, 1).leafEntry(1)
			copy(e.value, seal(bucketSeed("large"), e.key, make([]byte, 50)))
		}},
		{"a lost record", "records, expected", func(t *testing.T, c crafted) {
			p := c.leaf(t, 1)
			order.PutUint16(p[10:], uint16(p.count()-1))
		}},
		{"a bucket's sequence", "wrong header", func(t *testing.T, c crafted) { c.bucket(t, "large")[8] = 1 }},
		{"a small bucket's page", "wrong page in it", func(t *testing.T, c crafted) { c.bucket(t, "small")[bucketHeaderSize] = 1 }},
		{"a small bucket's overflow", "wrong page in it", func(t *testing.T, c crafted) { c.bucket(t, "small")[bucketHeaderSize+12] = 1 }},
		{"a small bucket's kind", "wrong page in it", func(t *testing.T, c crafted) {
			c.bucket(t, "small")[bucketHeaderSize+8] = flagBranch
		}},
		{"a small bucket elsewhere", "wrong header", func(t *testing.T, c crafted) { order.PutUint64(c.bucket(t, "small"), c.meta(t).root) }},
		{"the state's bit", "its state record", func(t *testing.T, c crafted) {
			at := bytes.Index(c.page(c.meta(t).root), []byte("crafted"))
			c.page(c.meta(t).root)[at]++
		}},
		{"the state of another transaction", "its state is of transaction", func(t *testing.T, c crafted) {
			for i := range uint64(2) { // two later, and still two that follow each other
				m, err := readMeta(c.page(i), i)
				if err != nil {
					t.Fatal(err)
				}
				writeMeta(c.page(i), m.transaction+2)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := slices.Clone(whole)
			path := filepath.Join(t.TempDir(), "file")
			write := func() {
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write()
			if _, err := Verify(context.Background(), path, craftedOptions); err != nil {
				t.Fatalf("before: %v", err)
			}
			c.change(t, b)
			write()
			_, err := Open(context.Background(), path, craftedOptions)
			if !errors.Is(err, ErrDamaged) || !strings.Contains(fmt.Sprint(err), c.message) {
				t.Fatalf("got %v, expected %q", err, c.message)
			}
			for _, part := range []string{path, "store restore"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}
