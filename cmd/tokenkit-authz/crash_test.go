package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/extauthz/statefile"
	"github.com/tokenkithq/authz/store/bolt"
)

const (
	crashWriters  = 32
	crashCheckers = 8
	// crashMutations is how many mutations each kill interrupts, about.
	crashMutations = 150
)

// crashRun is a run of [TestCrash]: what was asked of the service, what it
// acknowledged, and what turned out wrong.
type crashRun struct {
	t       *testing.T
	data    string
	random  *rand.Rand
	writers []*crashWriter
	limits  []*limitedKey
	retired int // limited keys made and deleted again
	signIn  signIn

	kills, acknowledged, lost, halfApplied int
	overLimit                              int
	allowedAfterKill, failedChecks         int64
	maxStart                               time.Duration
}

// TestCrash kills the real program with SIGKILL again and again, over one data
// folder, while keys are made and deleted, a password is changed and Checks
// are answered. TOKENKIT_ROUNDS is how often.
//
// What was acknowledged must be there after every kill, what was not must be
// there as a whole or not at all, and no key may ever have more calls allowed
// than its limit; nor may a key be denied what the price of the kills leaves.
func TestCrash(t *testing.T) {
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv("TOKENKIT_ROUNDS"), "5"))
	if err != nil {
		t.Fatalf("TOKENKIT_ROUNDS: %v", err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &crashRun{t: t, data: filepath.Join(t.TempDir(), "data"), random: rand.New(rand.NewPCG(seed, 0))}
	for i := range crashWriters {
		c.writers = append(c.writers, &crashWriter{number: i, random: rand.New(rand.NewPCG(seed, uint64(i)+1))})
	}
	c.signIn.password = "the first password"
	command(t, c.signIn.password+"\n", "user", "add", crashUser, "--data", c.data)
	for c.kills < rounds && !t.Failed() {
		if c.random.IntN(8) == 0 {
			c.killStarting()
		} else {
			c.round()
		}
	}
	s := c.start()
	c.verify(s)
	s.stop(t)
	c.verifyFiles()
	for _, key := range c.limits {
		c.overLimit += key.over()
	}
	for _, w := range c.writers {
		c.acknowledged += w.acknowledged
	}
	if c.acknowledged < c.kills {
		t.Errorf("only %d mutations were acknowledged", c.acknowledged)
	}
	if c.allowedAfterKill == 0 && c.kills >= 5 {
		t.Error("no limited key was allowed a single call after a kill")
	}
	if c.lost+c.halfApplied+c.overLimit > 0 && !t.Failed() {
		t.Error("the figures are not what they must be")
	}
	// A start takes well under a second; how long it takes on a machine that
	// is busy with other things says nothing, a minute would.
	if c.maxStart > 10*time.Second {
		t.Errorf("a start took %v", c.maxStart)
	}
	t.Logf("%d limited keys, %d calls allowed after a kill, %d Checks unanswered before one", len(c.limits)+c.retired, c.allowedAfterKill, c.failedChecks)
	fmt.Printf("kills=%d acknowledged=%d lost=%d half_applied=%d over_limit=%d max_start_ms=%d\n",
		c.kills, c.acknowledged, c.lost, c.halfApplied, c.overLimit, c.maxStart.Milliseconds())
}

// crashArgs end the arguments of every start. Denials are part of the test and
// all come from one address.
var crashArgs = []string{"--block-ignore", "unknown_key,rate_limited"}

func (c *crashRun) start() *server {
	began := time.Now()
	s := startServer(c.t, c.data, crashArgs...)
	c.maxStart = max(c.maxStart, time.Since(began))
	return s
}

// killStarting kills the program while it opens its files, or just afterwards.
func (c *crashRun) killStarting() {
	args := append([]string{"serve", "--data", c.data, "--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, crashArgs...)
	cmd := exec.Command(binary(c.t), args...)
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	time.Sleep(time.Duration(c.random.Int64N(int64(80 * time.Millisecond))))
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	c.killed()
}

func (c *crashRun) killed() {
	c.kills++
	for _, key := range c.limits {
		key.kills++
	}
}

// round starts the program, checks what the last kill left, makes changes and
// calls, and kills it in the middle of them.
func (c *crashRun) round() {
	s := c.start()
	c.verify(s)
	if c.t.Failed() {
		s.stop(c.t)
		return
	}
	c.renewLimits(s)
	client := admin.NewOperatorClient(filepath.Join(c.data, "control.sock"))
	defer client.Close()
	checks := newChecker(c.t, s.grpc)
	defer checks.close()

	var mutations atomic.Int64
	var stop atomic.Bool
	var all sync.WaitGroup
	until := mutations.Load() + 1 + c.random.Int64N(2*crashMutations)
	enough := make(chan struct{})
	for _, w := range c.writers {
		all.Go(func() {
			for w.write(client) {
				if mutations.Add(1) == until {
					close(enough)
				}
			}
		})
	}
	hot := make([]*limitedKey, 4)
	for i := range hot {
		hot[i] = c.limits[c.random.IntN(len(c.limits))]
	}
	hot = append(hot, c.limits[len(c.limits)-2:]...)
	for i := range crashCheckers {
		random := rand.New(rand.NewPCG(c.random.Uint64(), uint64(i)))
		all.Go(func() {
			for !stop.Load() {
				key := hot[random.IntN(len(hot))]
				if random.IntN(5) == 0 {
					key = c.limits[random.IntN(len(c.limits))]
				}
				key.call(checks)
			}
		})
	}
	changePassword := c.random.IntN(4) == 0
	if changePassword {
		all.Go(func() { c.signIn.change(s, client) })
	}
	select {
	case <-enough:
	case <-time.After(20 * time.Second):
		c.t.Errorf("only %d mutations in 20 s", mutations.Load())
	}
	if changePassword {
		// A change of password takes its time for the hashes.
		time.Sleep(time.Duration(c.random.Int64N(int64(300 * time.Millisecond))))
	}
	for _, key := range c.limits {
		c.failedChecks += key.failed.Swap(0)
	}
	_ = s.cmd.Process.Kill()
	stop.Store(true)
	<-s.exited
	s.cmd = nil
	all.Wait()
	for _, w := range c.writers {
		if w.err != nil {
			c.t.Errorf("writer %d: %v", w.number, w.err)
		}
	}
	if c.signIn.err != nil {
		c.t.Errorf("changing a password: %v", c.signIn.err)
	}
	c.acknowledged += c.signIn.acknowledged
	c.signIn.acknowledged = 0
	c.judgeLimits()
	c.killed()
	c.verifyFiles()
}

// verifyFiles proves the files as the kill left them.
func (c *crashRun) verifyFiles() {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	if _, err := bolt.Verify(ctx, filepath.Join(c.data, "keys.db"), bolt.Options{}); err != nil {
		c.t.Errorf("verifying after %d kills: %v", c.kills, err)
	}
	state, err := statefile.Open(ctx, filepath.Join(c.data, "state.db"), statefile.Options{ReadOnly: true})
	if err != nil {
		c.t.Errorf("verifying after %d kills: %v", c.kills, err)
		return
	}
	if err := state.Check(ctx); err != nil {
		c.t.Errorf("verifying after %d kills: %v", c.kills, err)
	}
	if err := state.Close(); err != nil {
		c.t.Error(err)
	}
	if err := verifyUsage(ctx, filepath.Join(c.data, "usage.db")); err != nil {
		c.t.Errorf("verifying after %d kills: %v", c.kills, err)
	}
}
