package block_test

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"pgregory.net/rapid"
)

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
