package boltfiletest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// What a check says of an image, wrapped with details. All other errors count
// as refusals.
var (
	// ErrLost says that a change that was acknowledged is missing.
	ErrLost = errors.New("an acknowledged change is lost")
	// ErrHalfApplied says that a change is there in part, or that something
	// is there that nobody wrote.
	ErrHalfApplied = errors.New("a change is applied in part")
)

// PowerLossOptions are all needed.
type PowerLossOptions struct {
	// Workload changes files in dir, which is empty at first, and calls ack
	// with a number, in any order, whenever a change was acknowledged. It runs
	// in a process of its own.
	Workload func(t *testing.T, dir string, ack func(number int))
	// Check opens the files in dir and compares them to what the workload did:
	// all of acked must be there, later changes may be, each whole or not at
	// all. Several checks run at the same time.
	Check func(dir string, acked map[int]bool) error
	// Images is how many images to make where TOKENKIT_ROUNDS does not say.
	Images int
}

// PowerLoss records every write and sync of a workload and checks images of
// what a loss of power leaves: all that was synced, and of what was not any
// part, whole or torn into sectors of 512 bytes or pages of 4096. Renames and
// new names count as lost until their folder is synced, in order.
//
// It must be the whole of its test. It is skipped as [OnDisk] is.
func PowerLoss(t *testing.T, o PowerLossOptions) {
	t.Helper()
	if dir := sessionDir(t); dir != "" {
		disk := &Disk{Dir: dir}
		o.Workload(t, dir, func(number int) {
			if err := disk.Acknowledge(number); err != nil {
				t.Error(err)
			}
		})
		return
	}
	d := runSession(t)
	l := &loss{options: o, log: d.log, seed: seed(t), images: rounds(t, o.Images), dir: scratch(t)}
	l.run(t)
	t.Logf("%d events in the log", len(d.log))
	figures(t, "images=%d lost=%d half_applied=%d refused=%d", l.images, l.lost, l.half, l.refused)
}

// loss makes images from a log.
type loss struct {
	options PowerLossOptions
	log     []event
	seed    uint64
	images  int
	dir     string

	mu                  sync.Mutex
	lost, half, refused int
}

// moment is the state of a disk between two events.
type moment struct {
	names   map[string]*file // synced
	renames []event          // names that were not synced
	files   map[*file]*content
	acked   map[int]bool
}

type content struct {
	durable []byte
	pending []event
}

// run visits the log once and makes the images of each moment while it is
// there.
func (l *loss) run(t *testing.T) {
	perMoment := make([]int, len(l.log)+1)
	random := source(l.seed, 0)
	for range l.images {
		perMoment[random.IntN(len(perMoment))]++
	}
	now := &moment{names: map[string]*file{}, files: map[*file]*content{}, acked: map[int]bool{}}
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var group sync.WaitGroup
	round := 0
	for i, n := range perMoment {
		for range n {
			round++
			image, number := now.image(source(l.seed, round)), round
			acked := maps.Clone(now.acked)
			slots <- struct{}{}
			group.Go(func() {
				l.check(t, number, i, image, acked)
				<-slots
			})
		}
		if i < len(l.log) {
			now.advance(l.log[i])
		}
	}
	group.Wait()
}

func (m *moment) advance(e event) {
	switch e.kind {
	case eventCreate:
		m.files[e.file] = &content{}
		m.renames = append(m.renames, e)
	case eventRename, eventUnlink:
		m.renames = append(m.renames, e)
	case eventSyncDir:
		applyNames(m.names, m.renames)
		m.renames = nil
	case eventWrite, eventTruncate:
		c := m.files[e.file]
		c.pending = append(c.pending, e)
	case eventSync:
		c := m.files[e.file]
		done := len(c.pending) - e.number
		// Images keep what they copied, so the old bytes may change.
		for _, p := range c.pending[:done] {
			c.durable = p.apply(c.durable)
		}
		c.pending = slices.Clone(c.pending[done:])
	case eventAck:
		m.acked[e.number] = true
	}
}

func applyNames(names map[string]*file, events []event) {
	for _, e := range events {
		switch e.kind {
		case eventCreate:
			names[e.name] = e.file
		case eventRename:
			names[e.to] = names[e.name]
			delete(names, e.name)
		case eventUnlink:
			delete(names, e.name)
		}
	}
}

// image is one folder as the loss leaves it.
func (m *moment) image(random *rand.Rand) map[string][]byte {
	names := maps.Clone(m.names)
	applyNames(names, m.renames[:random.IntN(len(m.renames)+1)])
	image := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		c := m.files[names[name]]
		image[name] = survive(slices.Clone(c.durable), c.pending, random)
	}
	return image
}

// survive applies a part of the pending events.
func survive(b []byte, pending []event, random *rand.Rand) []byte {
	if len(pending) == 0 {
		return b
	}
	mode := random.IntN(6)
	prefix := random.IntN(len(pending) + 1)
	for i, e := range pending {
		switch mode {
		case 0: // nothing
		case 1: // everything
			b = e.apply(b)
		case 2: // in order, the last one torn
			if i < prefix {
				b = e.apply(b)
			} else if i == prefix {
				b = torn(b, e, 512, random)
			}
		case 3: // any of them
			if random.IntN(2) == 0 {
				b = e.apply(b)
			}
		case 4: // any sectors of all
			b = torn(b, e, 512, random)
		case 5: // any pages, mostly there
			if random.IntN(8) != 0 {
				b = torn(b, e, 4096, random)
			}
		}
	}
	return b
}

// torn applies some units of a write.
func torn(b []byte, e event, unit int64, random *rand.Rand) []byte {
	if e.kind != eventWrite {
		if random.IntN(2) == 0 {
			b = e.apply(b)
		}
		return b
	}
	upTo, some := random.Int64N(int64(len(e.data))+unit), random.IntN(2) == 0
	for from := int64(0); from < int64(len(e.data)); {
		to := min((e.offset+from)/unit*unit+unit-e.offset, int64(len(e.data)))
		if some && random.IntN(2) == 0 || !some && to <= upTo {
			b = event{kind: eventWrite, offset: e.offset + from, data: e.data[from:to]}.apply(b)
		}
		from = to
	}
	return b
}

func (l *loss) check(t *testing.T, round, at int, image map[string][]byte, acked map[int]bool) {
	dir := filepath.Join(l.dir, fmt.Sprint(round))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Error(err)
		return
	}
	for name, b := range image {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Error(err)
			return
		}
	}
	err := l.options.Check(dir, acked)
	if removeErr := os.RemoveAll(dir); removeErr != nil {
		t.Error(removeErr)
	}
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, ErrLost):
		l.lost++
	case errors.Is(err, ErrHalfApplied):
		l.half++
	default:
		l.refused++
	}
	if l.lost+l.half+l.refused <= 10 {
		t.Errorf("image %d, after event %d, %d acknowledged: %v", round, at, len(acked), err)
	} else {
		t.Fail()
	}
}
