package redistest_test

import (
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

func TestSentinelsLetTheReplicaTakeOver(t *testing.T) {
	server := redistest.Start(t)
	replica := server.StartReplica(t)
	sentinels := server.StartSentinels(t, 3)
	if !sentinels.Follow(server) || sentinels.Follow(replica) || !server.IsMaster() || replica.IsMaster() {
		t.Fatal("at first the first server is the master")
	}
	server.Kill(t)
	eventually(t, "the replica takes over", func() bool { return replica.IsMaster() && sentinels.Follow(replica) })
	server.Start(t, "--replicaof", "127.0.0.1 "+replica.Port())
	eventually(t, "the former master copies it", func() bool { return server.Copies() && !server.IsMaster() })
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 30 s: %s", what)
		}
	}
}
