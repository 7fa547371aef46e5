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
	"sync"
	"sync/atomic"
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
	text := cmp.Or(os.Getenv("TOKENKIT_MODEL_STEPS"), "60000")
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

func prefixOf(addr netip.Addr) netip.Prefix {
	if addr.Is4() {
		return netip.PrefixFrom(addr, 32)
	}
	return netip.PrefixFrom(addr, 64).Masked()
}

// look brings a part of the table to a time and returns that time.
func (w *world) look(addr netip.Addr, late int64) int64 {
	part := w.table.Part(addr)
	w.latest[part] = max(w.latest[part], w.millis(late))
	return w.latest[part]
}

// open returns the record of an address whose window is open.
func (w *world) open(addr netip.Addr, at int64) (record, bool) {
	r, found := w.records[prefixOf(addr)]
	return r, found && at-r.opened < w.window
}

// expectFailure notes a failure and returns whether it blocks.
func (w *world) expectFailure(addr netip.Addr, reason apikey.Reason, at int64) bool {
	r, found := w.open(addr, at)
	if !found {
		if w.crowd > 0 && !w.makeRoom(addr, at) {
			w.tally.refusals++
			return false
		}
		w.opened++
		r = record{opened: at, order: w.opened}
	}
	r.failures++
	r.reason = reason
	blocks := r.blocked == 0 && r.failures >= w.threshold
	if blocks {
		r.blocked = at
		w.tally.blocks++
	}
	w.records[prefixOf(addr)] = r
	return blocks
}

// makeRoom is the promise for a part that is full.
func (w *world) makeRoom(addr netip.Addr, at int64) bool {
	delete(w.records, prefixOf(addr))
	count := 0
	var oldest netip.Addr
	order := 0
	for _, other := range w.addresses {
		r, found := w.open(other, at)
		if !found || w.table.Part(other) != w.table.Part(addr) {
			continue
		}
		count++
		if r.blocked == 0 && (order == 0 || r.order < order) {
			oldest, order = other, r.order
		}
	}
	if count < w.crowd {
		return true
	}
	if order > 0 {
		w.tally.evictions++
		delete(w.records, prefixOf(oldest))
	}
	return order > 0
}

var modelReasons = []apikey.Reason{apikey.ReasonUnknownKey, apikey.ReasonMalformedKey, apikey.ReasonOrigin}

func (w *world) fail(addr netip.Addr, late int64) {
	w.tally.calls++
	reason := rapid.SampledFrom(modelReasons).Draw(w.T, "reason")
	want := w.expectFailure(addr, reason, w.look(addr, late))
	if got := w.table.Failed(addr, reason, w.reading(late)); got != want {
		w.mistaken(got)
		w.Fatalf("a failure of %s blocked it: %v, expected %v", addr, got, want)
	}
	w.ask(addr, 0)
}

func (w *world) mistaken(blocked bool) {
	if blocked {
		w.tally.wrong++
	} else {
		w.tally.missed++
	}
}

// burst makes an address fail several times at once.
func (w *world) burst(addr netip.Addr) {
	const callers, each = 4, 3
	w.tally.calls += callers * each
	want := int32(0)
	at := w.look(addr, 0)
	for range callers * each {
		if w.expectFailure(addr, apikey.ReasonUnknownKey, at) {
			want++
		}
	}
	var blocked atomic.Int32
	var group sync.WaitGroup
	now := w.reading(0)
	for range callers {
		group.Go(func() {
			for range each {
				if w.table.Failed(addr, apikey.ReasonUnknownKey, now) {
					blocked.Add(1)
				}
			}
		})
	}
	group.Wait()
	if got := blocked.Load(); got != want {
		w.mistaken(got > want)
		w.Fatalf("%d failures of %s at once blocked it %d times, expected %d", callers*each, addr, got, want)
	}
	w.ask(addr, 0)
}

func (w *world) ask(addr netip.Addr, late int64) {
	left, got := w.table.Blocked(addr, w.reading(late))
	at := w.look(addr, late)
	r, found := w.open(addr, at)
	want := found && r.blocked != 0
	if got != want {
		w.mistaken(got)
		w.Fatalf("%s is blocked: %v, expected %v", addr, got, want)
	}
	if got && left != time.Duration(r.opened+w.window-at)*time.Millisecond {
		w.Fatalf("%s is blocked for %v, expected %v", addr, left, time.Duration(r.opened+w.window-at)*time.Millisecond)
	}
	if !got {
		// Whether the table took note of the time depends on other addresses.
		w.table.List(w.reading(late))
		for part := range w.parts {
			w.latest[part] = max(w.latest[part], w.millis(late))
		}
	}
}

func (w *world) list() {
	got := map[netip.Prefix]block.Entry{}
	for _, entry := range w.table.List(w.reading(0)) {
		got[entry.Prefix] = entry
	}
	for _, addr := range w.addresses {
		r, found := w.open(addr, w.look(addr, 0))
		entry, listed := got[prefixOf(addr)]
		if listed != (found && r.blocked != 0) {
			w.mistaken(listed)
			w.Fatalf("%s is listed: %v, expected %v", addr, listed, !listed)
		}
		want := block.Entry{
			Prefix: prefixOf(addr), Left: time.Duration(r.opened+w.window-w.look(addr, 0)) * time.Millisecond,
			Failures: r.failures, LastReason: r.reason, Since: entry.Since,
		}
		since := w.wall().Add(-time.Duration(w.look(addr, 0)-r.blocked) * time.Millisecond)
		if listed && (entry != want || !entry.Since.Equal(since)) {
			w.Fatalf("listed %+v, expected %+v since %v", entry, want, since)
		}
	}
}

func (w *world) unblock(addr netip.Addr) {
	r, found := w.open(addr, w.look(addr, 0))
	if got, want := w.table.Unblock(addr, w.reading(0)), found && r.blocked != 0; got != want {
		w.Fatalf("unblocking %s: %v, expected %v", addr, got, want)
	}
	delete(w.records, prefixOf(addr))
}

func (w *world) passTime() {
	ms := int64(time.Millisecond)
	switch w.pick(6, "how long") {
	case 0:
		w.now += rapid.Int64Range(0, 2*ms).Draw(w.T, "nanoseconds")
	case 1:
		w.now += rapid.Int64Range(0, w.window).Draw(w.T, "milliseconds") * ms
	case 2, 3:
		if r, found := w.records[prefixOf(w.anAddress())]; found {
			near := rapid.SampledFrom([]int64{-ms, -1, 0, 1}).Draw(w.T, "near")
			w.now = max(w.now, w.started+(r.opened+w.window-w.base)*ms+near)
		}
	case 4:
		w.now += rapid.Int64Range(0, 24*60).Draw(w.T, "minutes") * 60_000 * ms
	}
}

func (w *world) setWall() {
	w.wallOff += rapid.Int64Range(-1, 1).Draw(w.T, "forth or back") *
		rapid.SampledFrom([]int64{1_000_000, int64(time.Minute), int64(72 * time.Hour)}).Draw(w.T, "far")
}

func (w *world) outcome(oneIn int) outcome {
	if w.pick(oneIn, "does it fail") > 0 {
		return succeeds
	}
	return []outcome{fails, failsKept}[w.pick(2, "failure")]
}

// save saves; where it had nothing to save, what the journal has is as good.
func (w *world) save() {
	if w.holding != nil {
		w.release(w.outcome(3))
		return
	}
	w.journal.next = w.outcome(4)
	_ = w.table.Save(w.ctx)
	w.journal.next = succeeds
}

// hold begins a save that will not end before it is released.
func (w *world) hold() {
	if w.holding != nil {
		return
	}
	w.holding = make(chan error, 1)
	w.journal.held = true
	go func() { w.holding <- w.table.Save(w.ctx) }()
	select {
	case <-w.journal.begun:
	case <-w.holding: // there was nothing to save
		w.holding, w.journal.held = nil, false
	}
}

func (w *world) release(how outcome) {
	w.journal.released <- how
	<-w.holding
	w.holding, w.journal.held = nil, false
}

func (w *world) stopCleanly() {
	if w.holding != nil {
		w.release(w.outcome(3))
	}
	w.tally.restarts++
	if err := w.table.Close(w.ctx); err != nil {
		w.Fatalf("closing: %v", err)
	}
	w.restart()
}

func (w *world) crash() {
	w.tally.crashes++
	if w.holding != nil {
		w.release([]outcome{fails, failsKept}[w.pick(2, "the last save")])
	}
	w.restart()
}

func (w *world) restart() {
	if w.pick(2, "down for long") == 0 {
		w.passTime()
	}
	if w.pick(4, "clock set while down") == 0 {
		w.setWall()
	}
	w.start()
}
