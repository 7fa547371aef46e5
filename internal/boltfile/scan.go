package boltfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
)

// Report says what a verified file holds.
type Report struct {
	Kind        string
	Version     uint32
	Transaction uint64 // the last one; each commit is one
	Size        int64  // of the file, in bytes
	Pages       uint64 // of 4096 bytes, free ones included
	FreePages   uint64
	LostPages   uint64 // neither free nor in use: no harm, and gone after [Compact]
	Buckets     []BucketReport
}

// BucketReport is one bucket of a [Report].
type BucketReport struct {
	Name    string
	Records uint64
	Bytes   uint64 // of keys and values
}

// scanFile proves the whole of a file that nothing has mapped yet: a damaged
// page can make a reader of the map crash, or run in circles. So it trusts no
// number that it has not checked, uses no page twice, and reads each once.
func scanFile(ctx context.Context, file *os.File, o Options) (Report, error) {
	info, err := file.Stat()
	if err != nil {
		return Report{}, err
	}
	s := &scanner{file: file, size: info.Size(), options: o}
	report, err := s.scan(ctx)
	report.Size = info.Size()
	return report, err
}

// refuseScan names the file and what to do about what a scan found.
func refuseScan(path string, err error) error {
	switch {
	case errors.Is(err, ErrDamaged):
		return refuse(path, err, adviseRestore)
	case errors.Is(err, ErrForeign):
		return refuse(path, err, adviseFolder)
	case errors.Is(err, ErrNewer):
		return refuse(path, err, "use the version that wrote it, or a newer one")
	case errors.Is(err, ErrOlder):
		return refuse(path, err, "use a version that can bring it up")
	}
	return fmt.Errorf("%s: verifying: %w", path, err)
}

type scanner struct {
	file    *os.File
	size    int64
	options Options
	meta    meta
	used    []atomic.Uint64 // one bit a page
	inUse   atomic.Uint64   // pages
}

func (s *scanner) scan(ctx context.Context) (Report, error) {
	if err := s.readMetas(); err != nil {
		return Report{}, err
	}
	s.used = make([]atomic.Uint64, s.meta.pages/64+1)
	if err := s.claim(0, 2); err != nil {
		return Report{}, err
	}
	buckets, err := s.readRoot(ctx)
	if err != nil {
		return Report{}, err
	}
	state, err := s.readState(buckets)
	if err != nil {
		return Report{}, err
	}
	report := Report{Kind: state.kind, Version: state.version, Transaction: state.transaction, Pages: s.meta.pages}
	if err := s.identify(state); err != nil {
		return report, err
	}
	if report.Buckets, err = s.readBuckets(ctx, buckets, state); err != nil {
		return report, err
	}
	report.FreePages, err = s.readFreeList()
	report.LostPages = s.meta.pages - s.inUse.Load() // claims are of different pages
	return report, err
}

// readMetas finds the newest transaction; see the comment of the package for
// what is demanded of the two meta pages.
func (s *scanner) readMetas() error {
	var pages [2]page
	if s.size == 0 {
		return damagedf("it is empty")
	}
	both := make(page, 2*pageSize)
	if n, err := s.file.ReadAt(both, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading: %w", err)
	} else if clear(both[n:]); n < len(both) && !foreign([2]page{both[:pageSize], both[pageSize:]}) {
		return damagedf("it was cut off at %d bytes", n)
	}
	pages[0], pages[1] = both[:pageSize], both[pageSize:]
	if foreign(pages) {
		return fmt.Errorf("%w: it was not written by this program", ErrForeign)
	}
	var metas [2]meta
	for i := range pages {
		var err error
		if metas[i], err = readMeta(pages[i], uint64(i)); err != nil {
			return err
		}
	}
	s.meta = metas[0]
	older := metas[1]
	if older.transaction > s.meta.transaction {
		s.meta, older = older, s.meta
	}
	if s.meta.transaction != older.transaction+1 {
		return damagedf("its meta pages are of transactions %d and %d, expected two that follow each other", s.meta.transaction, older.transaction)
	}
	if s.meta.pages < 4 || s.meta.pages > uint64(s.size)/pageSize {
		return damagedf("it has %d bytes, expected at least %d pages of %d", s.size, s.meta.pages, pageSize)
	}
	return nil
}

// claim marks pages as used, or says that they cannot be.
func (s *scanner) claim(first, count uint64) error {
	if first+count > s.meta.pages || first+count < first || first >= s.meta.pages {
		return damagedf("page %d and %d more: the file has %d", first, count-1, s.meta.pages)
	}
	for id := first; id < first+count; id++ {
		if bit := uint64(1) << (id % 64); s.used[id/64].Or(bit)&bit != 0 {
			return damagedf("page %d is used twice", id)
		}
	}
	s.inUse.Add(count)
	return nil
}

// readSpan claims and reads a page and its overflow; head is its first page,
// or nil where that was not read yet.
func (s *scanner) readSpan(id uint64, head page) (page, error) {
	if err := s.claim(id, 1); err != nil {
		return nil, err
	}
	if head == nil {
		head = make(page, pageSize)
		if err := s.readPages(head, id); err != nil {
			return nil, err
		}
	}
	if head.id() != id {
		return nil, damagedf("page %d is that of another place", id)
	}
	more := head.overflow()
	if more == 0 {
		return head, nil
	}
	if err := s.claim(id+1, more); err != nil {
		return nil, err
	}
	span := make(page, (more+1)*pageSize)
	if err := s.readPages(span, id); err != nil {
		return nil, err
	}
	return span, nil
}

func (s *scanner) readPages(into []byte, first uint64) error {
	if _, err := s.file.ReadAt(into, int64(first)*pageSize); err != nil {
		return fmt.Errorf("reading page %d: %w", first, err)
	}
	return nil
}

// identify refuses a whole file that is not the one that was asked for.
func (s *scanner) identify(found *state) error {
	o := &s.options
	if found.kind != o.Kind {
		return fmt.Errorf("%w: it holds %q, expected %q", ErrForeign, found.kind, o.Kind)
	}
	if found.version > o.Version {
		return fmt.Errorf("%w: it has version %d, expected at most %d", ErrNewer, found.version, o.Version)
	}
	if found.version < o.Version {
		if o.Migrate == nil || o.ReadOnly {
			return fmt.Errorf("%w: it has version %d, expected %d", ErrOlder, found.version, o.Version)
		}
		return nil
	}
	for _, name := range o.Buckets {
		if found.bucket(name) == nil {
			return fmt.Errorf("%w: it has no bucket %q", ErrForeign, name)
		}
	}
	return nil
}

// readFreeList checks that free pages are in order and not in use, and counts
// them. A page that is neither free nor in use is lost space, and no harm.
func (s *scanner) readFreeList() (uint64, error) {
	p, err := s.readSpan(s.meta.freeList, nil)
	if err != nil {
		return 0, err
	}
	if p.flags() != flagFreeList {
		return 0, damagedf("page %d is a %s page, expected the free list", p.id(), p.kind())
	}
	ids := p[headerSize:]
	count := uint64(p.count())
	if count == 0xffff {
		count = order.Uint64(ids)
		ids = ids[8:]
	}
	if count > uint64(len(ids))/8 {
		return 0, damagedf("the free list has %d pages, more than it has room for", count)
	}
	last := uint64(1)
	for id := range slices.Chunk(ids[:count*8], 8) {
		id := order.Uint64(id)
		if id <= last {
			return 0, damagedf("the free list is not in order")
		}
		if err := s.claim(id, 1); err != nil {
			return 0, fmt.Errorf("in the free list: %w", err)
		}
		last = id
	}
	return count, nil
}
