package admin

import (
	"context"
	"sync"
	"time"
)

const (
	// mostAtOnce is how many hash at the same time on whatever machine: each
	// takes 19 MiB, and nobody signs in a hundred times a second.
	mostAtOnce = 4
	// waitersPerRunner bounds the queue: a hash with two passes over 19 MiB
	// takes some 25 ms, so that a waiter at its end has its turn in three
	// seconds, before its request is too old. Where all processors are busy and
	// it takes half a second to find that out, it has not.
	waitersPerRunner = 16
	// restFactor is for how many times as long as a hash took its place stays
	// free while others wait: hashing then uses an eighth of a processor in
	// place of a whole one. Requests at those times are slower for it.
	restFactor = 7
	// mostRest is for how long at the most, since on a busy machine a hash
	// takes long by itself.
	mostRest = 500 * time.Millisecond
	// spareHashes are made one right after the other where nobody else waits;
	// one more is saved up every spareEvery.
	spareHashes = 20
	spareEvery  = 200 * time.Millisecond
)

// turns lets a few work at a time that each keep a processor busy and take
// much memory, and others wait for their turn, so that Checks wait for neither.
type turns struct {
	running chan struct{}
	waiting chan struct{}

	mu    sync.Mutex
	spare int
	saved time.Time // until when spare is up to date
}

func newTurns(runners int) *turns {
	return &turns{
		running: make(chan struct{}, runners),
		waiting: make(chan struct{}, runners*(1+waitersPerRunner)),
		spare:   spareHashes,
	}
}

// enter waits for a turn. Where there is no error the caller must call leave,
// with how long it kept a processor busy; that does not wait.
func (t *turns) enter(ctx context.Context) (leave func(took time.Duration), err error) {
	select {
	case t.waiting <- struct{}{}:
	default:
		return nil, newProblem(CodeBusy)
	}
	select {
	case t.running <- struct{}{}:
	case <-ctx.Done():
		<-t.waiting
		return nil, newProblem(CodeBusy)
	}
	return func(took time.Duration) {
		<-t.waiting
		rest := t.rest(took, time.Now())
		if rest <= 0 {
			<-t.running
			return
		}
		time.AfterFunc(rest, func() { <-t.running })
	}, nil
}

// rest returns for how long a place stays free after work that took so long.
func (t *turns) rest(took time.Duration, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if saved := max(0, now.Sub(t.saved)) / spareEvery; saved >= spareHashes {
		t.spare, t.saved = spareHashes, now
	} else {
		t.spare, t.saved = min(spareHashes, t.spare+int(saved)), t.saved.Add(saved*spareEvery)
	}
	if t.spare--; t.spare >= 0 && len(t.waiting) < cap(t.running) {
		return 0
	}
	t.spare = max(t.spare, 0)
	rest := min(restFactor*took, mostRest)
	if resumes := now.Add(rest); t.saved.Before(resumes) {
		t.saved = resumes // a rest saves nothing up
	}
	return rest
}
