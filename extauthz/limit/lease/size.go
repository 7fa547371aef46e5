package lease

import "time"

const (
	// share is the part of a limit that all replicas together may hold unused
	// where that is enough for each; one alone holds as much as one of two.
	share = 50
	// enough is how many tokens a busy key is leased at once where its share
	// is less, up to a 50th of its limit for each replica: more than a hundred,
	// so that of a hundred calls about one asks the engine.
	enough = 128
	// soon is in which time it must need them.
	soon = 10 * time.Second
	// fewest is how large a 50th of a limit must be for that, for each replica:
	// much of a smaller limit would be held by a few of many.
	fewest = 5
	// first is how many tokens are leased at the first call, where they are no
	// more than a two-hundredth of the replica's even share.
	first = 16
	// growth is how many times as much the next lease may be as the last.
	growth = 16
	// aheadOfUse is how long before a lease is used up the next is asked for.
	// A slow engine is asked earlier.
	aheadOfUse = 20 * time.Millisecond
)

// aheadOfEnd is how long before a lease ends the next is asked for, in
// nanoseconds.
func (l *Limiter) aheadOfEnd() int64 { return min(int64(l.span)/8, 2*int64(sweepEvery)) }

// evenShare is how many tokens of a limit this replica may hold unused
// whatever its share of the calls is.
func (l *Limiter) evenShare(most uint32) uint32 {
	return most / (share * uint32(max(2, l.replicas.Load())))
}

// shareOf is how many tokens of a limit this replica may hold unused where it
// is called often enough. One: the limit is not leased ahead.
func (l *Limiter) shareOf(most uint32) uint32 {
	busy := min(most/share, enough)
	if most/share < fewest*uint32(max(2, l.replicas.Load())) {
		busy = 0
	}
	return max(1, l.evenShare(most), busy)
}

// wants returns how many tokens to ask for: what calls wait for, and a stock
// that grows while it is used up in time.
func (l *Limiter) wants(e *entry, p *pending, now instant) uint32 {
	var waiting uint64
	if p != nil {
		for _, w := range p.waiting {
			if !w.gone {
				waiting += uint64(w.tokens)
			}
		}
	}
	hungry := e.hungry
	e.hungry = false
	if waiting == 0 && !hungry {
		return 0
	}
	l.resize(e, now, waiting)
	want := waiting
	if stock := l.stock(e); stock > 1 {
		want = max(waiting, min(waiting+stock, uint64(e.limit)))
	}
	// What ends soon is not counted on.
	ahead := l.aheadOfEnd()
	left := uint64(e.left(instant{now.mono + ahead, now.wall + ahead}))
	return uint32(min(want-min(want, left), uint64(e.limit)))
}

// resize has an entry hold what it needs for a span, by what was taken of it
// since the engine last answered. More than its even share are what it needs
// for ten seconds: others get them no later, should this replica die or not be
// called any more.
func (l *Limiter) resize(e *entry, now instant, waiting uint64) {
	if !e.known {
		e.size = uint32(l.stock(e))
		return
	}
	passed := now.mono - e.seenAt
	used := float64(e.taken) + float64(waiting)
	perSecond := used * float64(time.Second) / float64(max(1, passed))
	needed := min(1.25*perSecond*l.span.Seconds(), growth*float64(e.size))
	if passed <= int64(l.span)/4 { // not long enough to be sure that it needs less
		needed = max(needed, float64(e.size))
	}
	e.size = uint32(max(1, min(needed, float64(l.shareOf(e.limit)), max(float64(l.evenShare(e.limit)), soon.Seconds()*1.25*perSecond))))
}

// stock is how many tokens an entry is to hold. Towards the end of the limit
// it leaves something for other replicas: all together take about half of what is
// left, this one by its part of what was leased lately.
func (l *Limiter) stock(e *entry) uint64 {
	if !e.known {
		return uint64(max(1, min(first, l.evenShare(e.limit)/200)))
	}
	stock := min(e.size, l.shareOf(e.limit))
	part := (e.demand + 1/float32(max(1, l.replicas.Load()))) / 4
	return uint64(min(stock, max(1, l.evenShare(e.limit)/2, uint32(float32(e.engineLeft)*part))))
}

// measure notes, when the engine answered, with how many tokens it is to be
// asked again, by how fast they were taken and how long it took to answer, and
// which part of what was leased of the key went to this replica.
func (l *Limiter) measure(e *entry, g *Grant, sent, landed instant) {
	ahead := max(int64(aheadOfUse), 4*(landed.mono-sent.mono))
	most := e.size / 4
	if e.known {
		passed := max(1, landed.mono-e.seenAt)
		most = uint32(min(float64(most), float64(e.taken)*float64(ahead)/float64(passed)))
	}
	e.low = max(most, min(e.size/4, 1), e.size/16)
	e.taken = 0
	switch {
	case !e.known || e.seen == 0:
		e.demand = 1 / float32(max(1, l.replicas.Load()))
	case g.Total > e.seen:
		e.demand = (e.demand + min(1, float32(g.Tokens)/float32(g.Total-e.seen))) / 2
	}
}

// followed reports whether a lease that ends soon is to be followed by
// another, because the key is in use and has no other.
func (l *Limiter) followed(e *entry, number uint64, now instant) bool {
	if !e.known || e.engineLeft == 0 || now.mono < e.deniedUntil || e.taken < 2 {
		return false
	}
	there := false
	for i := range e.leases {
		g := &e.leases[i]
		if !g.live(now) {
			continue
		}
		if g.end > now.mono+l.aheadOfEnd() {
			return false
		}
		there = there || g.number == number
	}
	return there
}
