package block_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a journal in memory whose saves can be made to fail.
type disk struct {
	mu     sync.Mutex
	inner  *memory
	err    error
	saves  int
	widest int // records in the largest batch
}

func (d *disk) State(ctx context.Context) (block.State, error) { return d.inner.State(ctx) }

func (d *disk) Records(ctx context.Context, fn func(*block.Record) error) error {
	return d.inner.Records(ctx, fn)
}

func (d *disk) Save(ctx context.Context, batch *block.Batch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.saves++
	d.widest = max(d.widest, len(batch.Put), len(batch.Delete))
	if d.err != nil {
		return d.err
	}
	return d.inner.Save(ctx, batch)
}

// counts returns how many saves there were and how many records there are.
func (d *disk) counts() (saves, records int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.saves, len(d.inner.records)
}

func (d *disk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *disk) has(addr netip.Addr) (failures uint32, blocked bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	record := d.inner.records[netip.PrefixFrom(addr, addr.BitLen())]
	return record.Failures, record.Blocked != 0
}

// running runs f in a bubble of its own time, with a table that runs.
func running(t *testing.T, o block.Options, f func(*testing.T, *block.Table, *disk)) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{inner: newMemory()}
		o.Journal = d
		if o.Logger == nil {
			o.Logger = slog.New(slog.DiscardHandler)
		}
		table := newTable(t, o)
		ended := make(chan error, 1)
		go func() { ended <- table.Run(t.Context()) }()
		f(t, table, d)
		if err := table.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestBlocksAreSavedAtOnceAndWindowsEachSecond(t *testing.T) {
	running(t, block.Options{Threshold: 2}, func(t *testing.T, table *block.Table, d *disk) {
		time.Sleep(time.Millisecond)
		slow, fast := four(1), four(2)
		table.Failed(slow, apikey.ReasonUnknownKey, time.Now())
		synctest.Wait()
		if n, _ := d.has(slow); n != 0 {
			t.Error("a window was saved at once")
		}
		table.Failed(fast, apikey.ReasonUnknownKey, time.Now())
		table.Failed(fast, apikey.ReasonUnknownKey, time.Now())
		synctest.Wait()
		if _, blocked := d.has(fast); !blocked {
			t.Error("a block was not saved at once")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n, blocked := d.has(slow); n != 1 || blocked {
			t.Errorf("a second later %d failures are saved, blocked: %v", n, blocked)
		}
		table.Unblock(fast, time.Now())
		synctest.Wait()
		if n, _ := d.has(fast); n != 0 {
			t.Error("lifting a block was not saved at once")
		}
		before, _ := d.counts()
		time.Sleep(4 * time.Minute)
		if after, _ := d.counts(); after != before {
			t.Errorf("%d saves of nothing", after-before)
		}
		time.Sleep(2 * time.Minute)
		table.List(time.Now())
		time.Sleep(2 * time.Second)
		if _, records := d.counts(); records != 0 {
			t.Errorf("%d records of windows that are closed", records)
		}
	})
}

func TestFailingSave(t *testing.T) {
	var log strings.Builder
	running(t, block.Options{Threshold: 2, Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, table *block.Table, d *disk) {
		table.Failed(four(1), apikey.ReasonUnknownKey, time.Now())
		table.Failed(four(1), apikey.ReasonUnknownKey, time.Now())
		time.Sleep(2 * time.Second)
		d.fail(errors.New("the disk is full"))
		table.Unblock(four(1), time.Now())
		for range 3 {
			table.Failed(four(2), apikey.ReasonUnknownKey, time.Now())
		}
		time.Sleep(time.Minute)
		if stats := table.Stats(); !stats.SaveFailing || stats.SaveErrors < 30 || stats.SaveErrors > 70 {
			t.Errorf("after a minute: %+v; expected about one failure a second", stats)
		}
		if _, blocked := table.Blocked(four(2), time.Now()); !blocked {
			t.Error("nothing is blocked while the disk is full")
		}
		d.fail(nil)
		time.Sleep(2 * time.Second)
		if n, _ := d.has(four(1)); n != 0 {
			t.Error("lifting a block was not saved")
		}
		if n, blocked := d.has(four(2)); n != 3 || !blocked || table.Stats().SaveFailing {
			t.Errorf("%d failures are saved, blocked: %v", n, blocked)
		}
	})
	if got := strings.Count(log.String(), "\n"); got != 2 || !strings.Contains(log.String(), "the disk is full") {
		t.Errorf("logged: %s", log.String())
	}
}

// A flood of new addresses is not one of writes, and is all saved in the end.
func TestFloodIsSavedByAndBy(t *testing.T) {
	running(t, block.Options{}, func(t *testing.T, table *block.Table, d *disk) {
		const flood = 50_000
		for n := range uint32(flood) {
			table.Failed(four(n), apikey.ReasonUnknownKey, time.Now())
		}
		time.Sleep(1001 * time.Millisecond)
		synctest.Wait()
		if _, saved := d.counts(); saved == 0 || saved > 8192 {
			t.Errorf("in the first second %d windows were saved", saved)
		}
		if err := table.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(d.inner.records) != flood || d.widest > 10_000 {
			t.Errorf("%d of %d windows are saved, in batches of up to %d", len(d.inner.records), flood, d.widest)
		}
		restarted := newTable(t, block.Options{Journal: d})
		if got := restarted.Stats().Addresses; got != flood {
			t.Errorf("%d of %d windows were loaded", got, flood)
		}
	})
}

// Ten million attackers, each with an address of its own, in IPv4 and IPv6: a
// fixed table. TOKENKIT_ATTACKERS says how many; the short form takes
// a thirtieth.
func TestManyAttackers(t *testing.T) {
	attackers := 300_000
	if text := os.Getenv("TOKENKIT_ATTACKERS"); text != "" {
		var err error
		if attackers, err = strconv.Atoi(text); err != nil {
			t.Fatalf("TOKENKIT_ATTACKERS: expected a number, got %q", text)
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	table := newTable(t, block.Options{})
	victim := four(1)
	now := time.Now()
	for range 10 {
		table.Failed(victim, apikey.ReasonUnknownKey, now)
	}
	for n := range uint64(attackers) {
		if n%2 == 0 {
			table.Failed(four(uint32(n)+1000), apikey.ReasonUnknownKey, now)
			continue
		}
		var six [16]byte
		binary.BigEndian.PutUint64(six[:8], n|0x2001<<48)
		table.Failed(netip.AddrFrom16(six), apikey.ReasonUnknownKey, now)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	// Earlier tests may have left memory that is used again here.
	added := max(int64(after.HeapAlloc-before.HeapAlloc), int64(after.Sys-before.Sys)) >> 20
	t.Logf("attackers=%d added_mib=%d", attackers, added)
	if added > 128 {
		t.Errorf("%d attackers added %d MiB, expected at most 128", attackers, added)
	}
	if _, blocked := table.Blocked(victim, now); !blocked {
		t.Error("they freed an address that was blocked")
	}
	if stats := table.Stats(); stats.Addresses > block.DefaultCapacity || stats.Blocked != 1 {
		t.Errorf("%+v", stats)
	}
}

// Removing very many old records takes several saves, which must not remove
// the record of an address that has since failed again.
func TestOldRecordsOfAddressesThatFailAgain(t *testing.T) {
	const addresses = 40_000
	d := &disk{inner: newMemory()}
	now := time.Now()
	clock := func() time.Time { return now }
	table := newTable(t, block.Options{Journal: d, Now: clock})
	for n := range uint32(addresses) {
		table.Failed(four(n), apikey.ReasonUnknownKey, now)
	}
	if err := table.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	table = newTable(t, block.Options{Journal: d, Now: clock})
	for n := range uint32(10) {
		table.Failed(four(n*addresses/10), apikey.ReasonUnknownKey, now)
	}
	for range 6 {
		if err := table.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.inner.records) != 10 {
		t.Errorf("%d records are left, expected those of the 10 that failed again", len(d.inner.records))
	}
}

func TestBadRecordsAreRefused(t *testing.T) {
	for name, prefix := range map[string]netip.Prefix{
		"none": {}, "an IPv4 network": netip.MustParsePrefix("192.0.2.0/24"), "an IPv6 address": netip.MustParsePrefix("2001:db8::1/128"),
		"host bits": netip.PrefixFrom(addr("2001:db8::1"), 64), "mapped": netip.MustParsePrefix("::ffff:192.0.2.1/128"),
	} {
		journal := newMemory()
		journal.records[prefix] = block.Record{Prefix: prefix, Opened: time.Now().UnixMilli(), Failures: 1}
		if _, err := block.New(t.Context(), block.Options{Journal: journal}); err == nil {
			t.Errorf("a record of %s was loaded", name)
		}
	}
}
