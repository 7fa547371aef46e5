package boltfile

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
)

// The layout of a file, as bbolt 1.x (format version 2) writes it: pages of
// pageSize bytes, of which the first two are meta pages, written in turn.
// A page that is too small takes the pages after it, its overflow.
const (
	pageSize   = 4096
	headerSize = 16 // id 8, flags 2, count 2, overflow 4
	entrySize  = 16 // of a leaf or a branch
	metaSize   = 56 // what its checksum covers

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreeList = 0x10

	entryBucket = 0x01

	bucketHeaderSize = 16 // root page 8, sequence 8

	magic         = 0xED0CDAED
	formatVersion = 2
)

var order = binary.NativeEndian

// page is the bytes of a page, or of a page and its overflow.
type page []byte

func (p page) id() uint64       { return order.Uint64(p) }
func (p page) flags() uint16    { return order.Uint16(p[8:]) }
func (p page) count() int       { return int(order.Uint16(p[10:])) }
func (p page) overflow() uint64 { return uint64(order.Uint32(p[12:])) }

func (p page) kind() string {
	switch p.flags() {
	case flagBranch:
		return "branch"
	case flagLeaf:
		return "leaf"
	case flagMeta:
		return "meta"
	case flagFreeList:
		return "free list"
	}
	return "unknown"
}

// entry is one element of a leaf or a branch page.
type entry struct {
	flags      uint32 // leaf
	child      uint64 // branch
	key, value []byte // parts of the page
}

// leafEntry reads element i of a leaf page, or returns false where it lies
// outside.
func (p page) leafEntry(i int) (e entry, ok bool) {
	at := headerSize + entrySize*i
	if at+entrySize > len(p) {
		return e, false
	}
	from := uint64(at) + uint64(order.Uint32(p[at+4:]))
	middle := from + uint64(order.Uint32(p[at+8:]))
	to := middle + uint64(order.Uint32(p[at+12:]))
	if from < uint64(headerSize+entrySize*p.count()) || to > uint64(len(p)) {
		return e, false
	}
	return entry{flags: order.Uint32(p[at:]), key: p[from:middle:middle], value: p[middle:to:to]}, true
}

// branchEntry reads element i of a branch page, or returns false where it lies
// outside.
func (p page) branchEntry(i int) (e entry, ok bool) {
	at := headerSize + entrySize*i
	if at+entrySize > len(p) {
		return e, false
	}
	from := uint64(at) + uint64(order.Uint32(p[at:]))
	to := from + uint64(order.Uint32(p[at+4:]))
	if from < uint64(headerSize+entrySize*p.count()) || to > uint64(len(p)) {
		return e, false
	}
	return entry{child: order.Uint64(p[at+8:]), key: p[from:to:to]}, true
}

// meta is the part of a meta page that is in use.
type meta struct {
	root        uint64
	freeList    uint64
	pages       uint64 // one more than the last page in use
	transaction uint64
}

// readMeta reads the meta page with number id.
func readMeta(p page, id uint64) (m meta, err error) {
	b := p[headerSize : headerSize+metaSize+8]
	h := fnv.New64a()
	_, _ = h.Write(b[:metaSize])
	if h.Sum64() != order.Uint64(b[metaSize:]) {
		return m, damagedf("meta page %d fails its checksum", id)
	}
	if order.Uint32(b) != magic || order.Uint32(b[4:]) != formatVersion || order.Uint32(b[8:]) != pageSize {
		return m, ErrForeign
	}
	m = meta{
		root: order.Uint64(b[16:]), freeList: order.Uint64(b[32:]),
		pages: order.Uint64(b[40:]), transaction: order.Uint64(b[48:]),
	}
	if p.id() != id || p.flags() != flagMeta || m.transaction%2 != id {
		return m, damagedf("meta page %d is that of another place", id)
	}
	return m, nil
}

// writeMeta changes the transaction of the meta page in p, and its place with
// it.
func writeMeta(p page, transaction uint64) {
	order.PutUint64(p, transaction%2)
	b := p[headerSize : headerSize+metaSize+8]
	order.PutUint64(b[48:], transaction)
	h := fnv.New64a()
	_, _ = h.Write(b[:metaSize])
	order.PutUint64(b[metaSize:], h.Sum64())
}

// foreign says whether neither meta page was ever one.
func foreign(metas [2]page) bool {
	for _, p := range metas {
		mark := order.AppendUint32(nil, magic)
		if bytes.Contains(p[:headerSize+metaSize], mark) {
			return false
		}
	}
	return true
}
