package block_test

import (
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
)

func BenchmarkBlocked(b *testing.B) {
	table := newTable(b, block.Options{})
	now := time.Now()
	for name, blocked := range map[string]int{"nobody is": 0, "many are": 100_000} {
		for n := range uint32(blocked) {
			for range 10 {
				table.Failed(four(n), apikey.ReasonUnknownKey, now)
			}
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			n := uint32(0)
			for b.Loop() {
				n++
				table.Blocked(four(n%200_000), now)
			}
		})
	}
}

func BenchmarkFailed(b *testing.B) {
	start := time.Now()
	for name, addresses := range map[string]uint32{"one address": 1, "new addresses": 1 << 31} {
		b.Run(name, func(b *testing.B) {
			table := newTable(b, block.Options{})
			b.ReportAllocs()
			n := uint32(0)
			for b.Loop() {
				n++
				table.Failed(four(n%addresses), apikey.ReasonUnknownKey, start.Add(time.Duration(n)*time.Microsecond))
			}
		})
	}
}

func BenchmarkFailedParallel(b *testing.B) {
	table := newTable(b, block.Options{})
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		n := uint32(0)
		for pb.Next() {
			n++
			table.Failed(four(n%1000), apikey.ReasonUnknownKey, now)
		}
	})
}
