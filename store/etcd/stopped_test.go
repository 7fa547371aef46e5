package etcd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tokenkithq/authz/internal/etcdtest"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/etcd"
)

// serveReplica is a replica in a process of its own: for each number that it
// reads it writes whether that key is found.
func serveReplica(endpoint string) error {
	keys, err := etcd.Open(context.Background(), etcd.Options{Endpoints: []string{endpoint}, Staleness: 2 * time.Second})
	if err != nil {
		return err
	}
	defer keys.Close()
	cache := cached(keys, store.CacheOptions{})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		_, err = cache.FindKey(context.Background(), hashOf(n))
		switch {
		case err == nil:
			fmt.Println("found")
		case errors.Is(err, store.ErrNotFound):
			fmt.Println("absent")
		case errors.Is(err, store.ErrUnavailable):
			fmt.Println("unavailable")
		default:
			fmt.Println(err)
		}
	}
	return nil
}

// A process that was stopped knows when it goes on that it may have missed
// something.
func TestProcessIsStopped(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	a := open(t, etcd.Options{Endpoints: cluster.Endpoints(), Staleness: 2 * time.Second})
	a.user(t)
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), replicaVariable+"="+cluster.Members[0].Endpoint)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the replica: %v", err)
		}
	}()
	answers := bufio.NewScanner(out)
	asked := func(n int) { must(t, ignoring(io.WriteString(in, fmt.Sprintln(n)))) }
	answer := func() string {
		if !answers.Scan() {
			t.Fatal("the replica has ended")
		}
		return strings.TrimSpace(answers.Text())
	}
	for round := range rounds(t, 1, 5) {
		key := a.key(t, round)
		asked(round)
		if got := answer(); got != "found" {
			t.Fatalf("before it was stopped: %s", got)
		}
		must(t, cmd.Process.Signal(syscall.SIGSTOP))
		_, err := a.DeleteKey(t.Context(), 0, key.ID, by)
		must(t, cmd.Process.Signal(syscall.SIGCONT))
		must(t, err)
		asked(round)
		if got := answer(); got != "unavailable" && got != "absent" {
			t.Fatalf("after it was stopped: %s", got)
		}
		eventually(t, "coming back", func() bool {
			asked(round)
			return answer() == "absent"
		})
	}
}

func ignoring(_ int, err error) error { return err }
