package redis_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/extauthz/limit/redis"
	"github.com/tokenkithq/authz/internal/redistest"
)

// BenchmarkFirstCall makes calls that each have to ask the server, and reports
// the processor time of this side of it.
func BenchmarkFirstCall(b *testing.B) {
	s := redistest.Start(b, exact...)
	l, err := lease.New(lease.Options{Engine: open(b, redis.Options{Addresses: []string{s.Address}}), Logger: quiet(), Wait: 10 * time.Second, Timeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before, id := processorTime(b), apikey.KeyID(0)
	for b.Loop() {
		id++
		if _, err := l.Spend(b.Context(), &apikey.Key{ID: id, RateLimitPerHour: 1_000_000}, 1, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	if err := l.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
