package block_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"pgregory.net/rapid"
)

// TestModel takes generated steps with a table and compares each answer with
// what follows from the list of all failures. One half of the worlds have room
// for all addresses and are restarted and crashed; the other half are crowded.
//
// TOKENKIT_MODEL_STEPS says how many steps to take.
func TestModel(t *testing.T) {
	text := cmp.Or(os.Getenv("TOKENKIT_MODEL_STEPS"), "30000")
	steps, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("TOKENKIT_MODEL_STEPS: expected a number, got %q", text)
	}
	tally := &tally{}
	defer func() {
		fmt.Printf("steps=%d calls=%d blocks=%d crashes=%d clean_restarts=%d evictions=%d refusals=%d wrong_blocks=%d missed_blocks=%d\n",
			tally.steps, tally.calls, tally.blocks, tally.crashes, tally.restarts, tally.evictions, tally.refusals, tally.wrong, tally.missed)
	}()
	for tally.steps < steps && !t.Failed() {
		rapid.Check(t, func(rt *rapid.T) {
			if tally.steps < steps {
				runWorld(t, rt, tally)
			}
		})
	}
}

type tally struct {
	steps, calls, blocks, crashes, restarts, evictions, refusals, wrong, missed int
}

// record is what is known of an address with an open window, in milliseconds
// of the table's time.
type record struct {
	opened, blocked int64
	failures        uint32
	reason          apikey.Reason
	order           int // in which the windows opened
}

// world is a table, what surrounds it, and what must follow from it.
type world struct {
	*rapid.T
	ctx       context.Context
	tally     *tally
	journal   *faulty
	table     *block.Table
	addresses []netip.Addr
	threshold uint32
	window    int64
	crowd     int // how many addresses each part has room for; 0: all

	now     int64         // true time since the world began, in nanoseconds
	wallOff int64         // what the wall clock shows too much, in nanoseconds
	started int64         // true time of the start
	base    int64         // table's time of the start
	latest  map[int]int64 // of each part
	parts   map[int]bool  // that the addresses are in
	opened  int

	records map[netip.Prefix]record
	saving  checkpoint
	durable checkpoint
	holding chan error
	picks   uint64
}

type checkpoint struct {
	time, wall int64
	records    map[netip.Prefix]record
}

var modelEpoch = time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.UTC)

func (w *world) wall() time.Time { return modelEpoch.Add(time.Duration(w.now + w.wallOff)) }

func (w *world) reading(late int64) time.Time {
	return reading(w.wall().Add(-time.Duration(late)), w.now-late+1)
}

func (w *world) millis(late int64) int64 {
	return w.base + max(0, (w.now-late-w.started)/int64(time.Millisecond))
}

var modelAddresses = func() []netip.Addr {
	list := []netip.Addr{netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("::"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:0:1::1")}
	for i := range 20 {
		list = append(list, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	return list
}()

func runWorld(t *testing.T, rt *rapid.T, tally *tally) {
	w := &world{T: rt, ctx: t.Context(), tally: tally}
	w.threshold = uint32([]int{1, 2, 3, 10}[w.pick(4, "threshold")])
	w.window = []int64{1, 1000, 300_000, 300_000}[w.pick(4, "window")]
	w.addresses = modelAddresses
	if w.pick(2, "crowded") == 0 {
		w.crowd = 1 + w.pick(4, "room")
	}
	w.journal = &faulty{
		memory: newMemory(), begun: make(chan struct{}), released: make(chan outcome), saving: w.saveBegins, saved: w.saveEnds,
	}
	defer func() {
		if w.holding != nil {
			w.release(fails)
		}
	}()
	w.records = map[netip.Prefix]record{}
	w.start()
	for range 300 {
		w.tally.steps++
		w.step()
	}
}

// sameParts finds addresses that fall into few parts of the table, so many
// each.
func sameParts(table *block.Table, parts, each int) []netip.Addr {
	var list []netip.Addr
	for part := range parts {
		for n := uint32(1); len(list) < (part+1)*each; n++ {
			if table.Part(four(n)) == part {
				list = append(list, four(n))
			}
		}
	}
	return list
}

func (w *world) saveBegins() {
	w.saving = checkpoint{w.millis(0), w.wall().UnixMilli(), maps.Clone(w.records)}
}

func (w *world) saveEnds(kept bool) {
	if kept {
		w.durable = w.saving
	}
}

func (w *world) start() {
	wall := w.wall().UnixMilli()
	w.base = wall
	if w.durable.records != nil {
		w.base = w.durable.time + max(0, wall-w.durable.wall-1)
	}
	w.started, w.latest = w.now, map[int]int64{}
	w.records = maps.Clone(w.durable.records)
	if w.records == nil {
		w.records = map[netip.Prefix]record{}
	}
	o := block.Options{
		Journal: w.journal, Threshold: int(w.threshold), Window: time.Duration(w.window) * time.Millisecond,
		Capacity: 256 * cmp.Or(w.crowd, 100), Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.reading(0) },
	}
	table, err := block.New(w.ctx, o)
	if err != nil {
		w.Fatalf("starting: %v", err)
	}
	w.table = table
	if w.crowd > 0 {
		w.addresses = sameParts(w.table, 2, 6)
	}
	w.parts = map[int]bool{}
	for _, addr := range w.addresses {
		w.parts[w.table.Part(addr)] = true
	}
	for _, addr := range w.addresses {
		w.ask(addr, 0)
	}
}

// pick draws one of n evenly. Rapid itself prefers small numbers, which is good
// for values and bad for choices.
func (w *world) pick(n int, label string) int {
	w.picks++
	x := rapid.Uint64().Draw(w.T, label) + w.picks*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return int((x ^ x>>31) % uint64(n))
}

func (w *world) step() {
	switch kind := w.pick(100, "step"); {
	case kind < 40:
		w.fail(w.anAddress(), w.late())
	case kind < 45:
		w.burst(w.anAddress())
	case kind < 55:
		w.ask(w.anAddress(), w.late())
	case kind < 60:
		w.list()
	case kind < 63:
		w.unblock(w.anAddress())
	case kind < 80:
		w.passTime()
	case kind < 82:
		w.setWall()
	case kind < 88:
		w.save()
	case kind < 91:
		w.hold()
	case w.crowd > 0:
		// Where what was saved finds its place is not known.
	case kind < 95:
		w.stopCleanly()
	default:
		w.crash()
	}
}

func (w *world) anAddress() netip.Addr {
	return w.addresses[w.pick(len(w.addresses), "address")]
}

func (w *world) late() int64 {
	if w.pick(10, "is late") > 0 {
		return 0
	}
	return min(w.now-w.started, rapid.Int64Range(0, int64(time.Second)).Draw(w.T, "late"))
}
