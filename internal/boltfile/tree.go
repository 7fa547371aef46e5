package boltfile

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	deepestTree = 32  // levels; a file of the largest size has fewer
	readAhead   = 64  // pages that are read at once
	readChunk   = 512 // references that a worker takes at once
)

// reference leads to a page of a tree.
type reference struct {
	page   uint64
	bucket int
	first  []byte // the key that the page must begin with; nil at the root
	below  []byte // a key that all of its keys are below; nil is none
}

// bucketScan gathers what is found in a bucket.
type bucketScan struct {
	name   string
	seed   uint32
	root   uint64
	inline page // of a bucket so small that it lies in the root

	mu      sync.Mutex
	count   uint64
	digest  uint64
	bytes   uint64
	records []entry // of the root and the state only
}

// readRoot reads the tree whose records are the buckets.
func (s *scanner) readRoot(ctx context.Context) ([]*bucketScan, error) {
	root := &bucketScan{name: "", root: s.meta.root}
	if err := s.walk(ctx, []*bucketScan{root}, true); err != nil {
		return nil, err
	}
	var buckets []*bucketScan
	for _, e := range root.records {
		b := &bucketScan{name: string(e.key), seed: bucketSeed(string(e.key))}
		if len(e.value) < bucketHeaderSize || order.Uint64(e.value[8:]) != 0 {
			return nil, damagedf("bucket %q has a wrong header", b.name)
		}
		b.root = order.Uint64(e.value)
		if b.root == 0 {
			b.inline = page(e.value[bucketHeaderSize:])
			if len(b.inline) < headerSize || b.inline.id() != 0 || b.inline.flags() != flagLeaf || b.inline.overflow() != 0 {
				return nil, damagedf("bucket %q has a wrong page in it", b.name)
			}
		} else if len(e.value) != bucketHeaderSize {
			return nil, damagedf("bucket %q has a wrong header", b.name)
		}
		buckets = append(buckets, b)
	}
	return buckets, nil
}

// readState reads the record that says what the file is.
func (s *scanner) readState(buckets []*bucketScan) (*state, error) {
	i := slices.IndexFunc(buckets, func(b *bucketScan) bool { return b.name == stateBucket })
	if i < 0 {
		// Names that were changed would be found so, too; either is refused.
		return nil, fmt.Errorf("%w: it was not written by this program", ErrForeign)
	}
	b := buckets[i]
	if err := s.walk(context.Background(), []*bucketScan{b}, true); err != nil {
		return nil, err
	}
	if len(b.records) != 1 || string(b.records[0].key) != stateKey {
		return nil, damagedf("its state record is missing")
	}
	value, err := unseal(b.seed, b.records[0].key, b.records[0].value)
	if err != nil {
		return nil, fmt.Errorf("its state record: %w", err)
	}
	found, err := decodeState(value)
	if err != nil {
		return nil, err
	}
	if found.transaction != s.meta.transaction {
		return nil, damagedf("its state is of transaction %d, expected %d", found.transaction, s.meta.transaction)
	}
	return found, nil
}

// readBuckets reads all other buckets and compares them to the state.
func (s *scanner) readBuckets(ctx context.Context, buckets []*bucketScan, want *state) ([]BucketReport, error) {
	buckets = slices.DeleteFunc(slices.Clone(buckets), func(b *bucketScan) bool { return b.name == stateBucket })
	if len(buckets) != len(want.buckets) {
		return nil, damagedf("it has %d buckets, expected %d", len(buckets), len(want.buckets))
	}
	if err := s.walk(ctx, buckets, false); err != nil {
		return nil, err
	}
	reports := make([]BucketReport, len(buckets))
	for i, b := range buckets {
		w := want.bucket(b.name)
		if w == nil {
			return nil, damagedf("bucket %q: not one of its buckets", b.name)
		}
		if b.count != w.count {
			return nil, damagedf("bucket %q has %d records, expected %d", b.name, b.count, w.count)
		}
		if b.digest != w.digest {
			return nil, damagedf("bucket %q holds records that are not its latest", b.name)
		}
		reports[i] = BucketReport{Name: b.name, Records: b.count, Bytes: b.bytes}
	}
	return reports, nil
}

// walk verifies the trees of buckets, level by level, each level in the order
// of the file, on all processors. keep collects the records as they are
// stored, instead of proving them.
func (s *scanner) walk(ctx context.Context, buckets []*bucketScan, keep bool) error {
	var level []reference
	for i, b := range buckets {
		if b.inline != nil {
			if _, err := s.readLeaf(b.inline, reference{bucket: i}, b, keep); err != nil {
				return err
			}
			continue
		}
		level = append(level, reference{page: b.root, bucket: i})
	}
	for depth := 0; len(level) > 0; depth++ {
		if depth == deepestTree {
			return damagedf("a tree of more than %d levels", deepestTree)
		}
		slices.SortFunc(level, func(a, b reference) int { return cmp.Compare(a.page, b.page) })
		next, err := s.readLevel(ctx, level, buckets, keep)
		if err != nil {
			return err
		}
		level = next
	}
	return nil
}

func (s *scanner) readLevel(ctx context.Context, level []reference, buckets []*bucketScan, keep bool) (next []reference, err error) {
	var (
		mu    sync.Mutex
		chunk atomic.Int64
		group sync.WaitGroup
	)
	workers := min(runtime.GOMAXPROCS(0), (len(level)+readChunk-1)/readChunk, 8)
	if keep {
		workers = 1 // the order of records is kept
	}
	for range workers {
		group.Go(func() {
			buffer := make([]byte, readAhead*pageSize)
			for {
				from := int(chunk.Add(1)-1) * readChunk
				if from >= len(level) {
					return
				}
				children, readErr := s.readReferences(ctx, level[from:min(from+readChunk, len(level))], buckets, buffer, keep)
				mu.Lock()
				next = append(next, children...)
				if err == nil {
					err = readErr
				}
				mu.Unlock()
				if readErr != nil {
					chunk.Store(int64(len(level)))
					return
				}
			}
		})
	}
	group.Wait()
	return next, err
}

// readReferences verifies the pages that sorted references lead to, and
// returns the references in them.
func (s *scanner) readReferences(ctx context.Context, refs []reference, buckets []*bucketScan, buffer []byte, keep bool) (children []reference, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var first, end uint64 // the pages in buffer
	for i, ref := range refs {
		if ref.page < 2 || ref.page >= s.meta.pages {
			return nil, damagedf("page %d: the file has %d", ref.page, s.meta.pages)
		}
		if ref.page >= end {
			first, end = ref.page, ref.page+1
			for _, ahead := range refs[i:] {
				if ahead.page-first >= readAhead || ahead.page >= s.meta.pages {
					break
				}
				end = ahead.page + 1
			}
			if err := s.readPages(buffer[:(end-first)*pageSize], first); err != nil {
				return nil, err
			}
		}
		p, err := s.readSpan(ref.page, page(buffer[(ref.page-first)*pageSize:][:pageSize:pageSize]))
		if err != nil {
			return nil, err
		}
		switch p.flags() {
		case flagLeaf:
			_, err = s.readLeaf(p, ref, buckets[ref.bucket], keep)
		case flagBranch:
			children, err = readBranch(p, ref, children)
		default:
			err = damagedf("page %d is a %s page, expected a leaf or a branch", ref.page, p.kind())
		}
		if err != nil {
			return nil, err
		}
	}
	return children, nil
}

// readBranch appends what a branch page refers to. It demands what the library
// below relies on: that each key is the very first one of its page.
func readBranch(p page, ref reference, children []reference) ([]reference, error) {
	p = bytes.Clone(p) // the references keep its keys
	if p.count() == 0 {
		return nil, damagedf("page %d is a branch without entries", ref.page)
	}
	from := len(children)
	for i := range p.count() {
		e, ok := p.branchEntry(i)
		if !ok || !inOrder(i, e.key, ref, children) {
			return nil, damagedf("page %d: entry %d is out of order", ref.page, i)
		}
		if i > 0 {
			children[len(children)-1].below = e.key
		}
		children = append(children, reference{page: e.child, bucket: ref.bucket, first: e.key, below: ref.below})
	}
	return children[:from+p.count()], nil
}

func inOrder(i int, key []byte, ref reference, children []reference) bool {
	if len(key) == 0 || ref.below != nil && bytes.Compare(key, ref.below) >= 0 {
		return false
	}
	if i == 0 {
		return ref.first == nil || bytes.Equal(key, ref.first)
	}
	return bytes.Compare(children[len(children)-1].first, key) < 0
}

// readLeaf verifies a leaf page and adds its records to b.
func (s *scanner) readLeaf(p page, ref reference, b *bucketScan, keep bool) (int, error) {
	var count, digest, size uint64
	var last []byte
	if p.count() == 0 && ref.first != nil {
		return 0, damagedf("page %d is a leaf without records", ref.page)
	}
	for i := range p.count() {
		e, ok := p.leafEntry(i)
		switch {
		case !ok || len(e.key) == 0,
			i == 0 && ref.first != nil && !bytes.Equal(e.key, ref.first),
			i > 0 && bytes.Compare(last, e.key) >= 0,
			ref.below != nil && bytes.Compare(e.key, ref.below) >= 0:
			return 0, damagedf("page %d: record %d is out of order", ref.page, i)
		}
		last = e.key
		isBucket := b.name == ""
		if isBucket != (e.flags == entryBucket) || !isBucket && e.flags != 0 {
			return 0, damagedf("page %d: record %d has a wrong type", ref.page, i)
		}
		if keep {
			b.records = append(b.records, entry{key: bytes.Clone(e.key), value: bytes.Clone(e.value)})
			continue
		}
		if _, err := unseal(b.seed, e.key, e.value); err != nil {
			return 0, fmt.Errorf("bucket %q, page %d, record %d: %w", b.name, ref.page, i, err)
		}
		count++
		digest += term(e.value)
		size += uint64(len(e.key) + len(e.value) - sumSize)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count += count
	b.digest += digest
	b.bytes += size
	return p.count(), nil
}
