package boltfile

import (
	"encoding/binary"
	"math"
)

// stateBucket holds one record, under stateKey: what the file is, and what all
// of its buckets must add up to. It is written in every transaction.
const (
	stateBucket = "boltfile"
	stateKey    = "state"
	stateFormat = 1
)

type state struct {
	kind    string
	version uint32
	// transaction is the one that wrote this state. A file whose newest meta
	// page names another one holds pages of different age.
	transaction uint64
	buckets     []bucketState
}

type bucketState struct {
	name     string
	count    uint64 // records
	digest   uint64 // the sum of the terms of all records
	sequence uint64 // the last number handed out
}

func (s *state) bucket(name string) *bucketState {
	for i := range s.buckets {
		if s.buckets[i].name == name {
			return &s.buckets[i]
		}
	}
	return nil
}

func (s *state) encode() []byte {
	b := append(make([]byte, 0, 256), stateFormat)
	b = appendText(b, s.kind)
	b = binary.LittleEndian.AppendUint32(b, s.version)
	b = binary.LittleEndian.AppendUint64(b, s.transaction)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.buckets)))
	for _, bucket := range s.buckets {
		b = appendText(b, bucket.name)
		b = binary.LittleEndian.AppendUint64(b, bucket.count)
		b = binary.LittleEndian.AppendUint64(b, bucket.digest)
		b = binary.LittleEndian.AppendUint64(b, bucket.sequence)
	}
	return b
}

func appendText(b []byte, text string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(text))), text...)
}

// decodeState reads what [state.encode] wrote. Its checksum was verified, so a
// mistake here is one of a program.
func decodeState(b []byte) (*state, error) {
	r := reader{b: b}
	if format := r.take(1); format == nil || format[0] != stateFormat {
		return nil, damagedf("its state record has an unknown format")
	}
	s := &state{kind: r.text(), version: uint32(r.number(4)), transaction: r.number(8)}
	for range min(r.number(4), math.MaxUint16) {
		if r.short {
			break
		}
		bucket := bucketState{name: r.text(), count: r.number(8), digest: r.number(8), sequence: r.number(8)}
		s.buckets = append(s.buckets, bucket)
	}
	if r.short || len(r.b) != 0 {
		return nil, damagedf("its state record has the wrong length")
	}
	return s, nil
}

type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.short = true
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) number(size int) uint64 {
	var whole [8]byte
	copy(whole[:], r.take(size))
	return binary.LittleEndian.Uint64(whole[:])
}

func (r *reader) text() string { return string(r.take(int(r.number(2)))) }
