package redistest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/internal/redistest"
)

func do(t *testing.T, address string, command ...string) string {
	t.Helper()
	answer, err := redistest.Do(address, command...)
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	return answer
}

func TestKilledServerKeepsWhatItSaved(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	if answer := do(t, server.Address, "SET", "a", "1"); answer != "+OK\r\n" {
		t.Fatal(answer)
	}
	server.Kill(t)
	if _, err := redistest.Do(server.Address, "PING"); err == nil {
		t.Error("a server that was killed answers")
	}
	server.Start(t)
	if answer := do(t, server.Address, "GET", "a"); answer != "$1\r\n1\r\n" {
		t.Errorf("after a crash: %q", answer)
	}
}

func TestPausedServerSaysNothing(t *testing.T) {
	server := redistest.Start(t)
	server.Pause(t)
	if _, err := redistest.Do(server.Address, "PING"); err == nil {
		t.Error("a server that is paused answers")
	}
	server.Resume(t)
	if answer := do(t, server.Address, "PING"); answer != "+PONG\r\n" {
		t.Errorf("after the pause: %q", answer)
	}
}

func TestSentinelLetsTheReplicaTakeOver(t *testing.T) {
	server := redistest.Start(t)
	replica := server.StartReplica(t)
	sentinel := server.StartSentinel(t)
	server.Kill(t)
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(do(t, replica.Address, "INFO", "replication"), "role:master") {
		if time.Now().After(deadline) {
			t.Fatal("the replica does not take over: " + do(t, sentinel.Address, "SENTINEL", "MASTER", redistest.Group))
		}
		time.Sleep(50 * time.Millisecond)
	}
}
