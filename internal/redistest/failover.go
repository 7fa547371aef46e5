package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// StartReplica runs a server that copies s, and waits until it does.
func (s *Server) StartReplica(t testing.TB, args ...string) *Server {
	t.Helper()
	replica := Start(t, append([]string{"--replicaof", "127.0.0.1 " + s.Port()}, args...)...)
	replica.wait(t, "it copies another", replica.Copies)
	return replica
}

// Copies reports whether a server is a replica that is connected to its master.
func (s *Server) Copies() bool {
	return strings.Contains(s.Says("INFO", "replication"), "master_link_status:up")
}

// IsMaster reports whether a server takes writes.
func (s *Server) IsMaster() bool {
	return strings.Contains(s.Says("INFO", "replication"), "role:master")
}

// Group is the name under which Sentinels know the servers.
const Group = "tokenkit"

// Sentinels are those that watch over one group of servers.
type Sentinels []*Server

// StartSentinels runs Sentinels, which make a replica of s take its place when
// most of them have not heard of s for a second and a half. It waits until they know
// each other and a replica.
func (s *Server) StartSentinels(t testing.TB, count int) Sentinels {
	t.Helper()
	var all Sentinels
	for range count {
		folder := t.TempDir()
		config := filepath.Join(folder, "sentinel.conf")
		text := fmt.Sprintf("sentinel monitor %s 127.0.0.1 %s %d\nsentinel down-after-milliseconds %s 1500\nsentinel failover-timeout %s 3000\n", Group, s.Port(), count/2+1, Group, Group)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, run(t, folder, config, "--sentinel", "--dir", folder))
	}
	for _, sentinel := range all {
		sentinel.wait(t, "it knows a replica and the other Sentinels", func() bool {
			answer := sentinel.Says("SENTINEL", "MASTER", Group)
			return strings.Contains(answer, field("num-other-sentinels", count-1)) && !strings.Contains(answer, field("num-slaves", 0))
		})
	}
	return all
}

func field(name string, value int) string {
	return fmt.Sprintf("%s\r\n$1\r\n%d\r\n", name, value)
}

// Addresses returns host:port of each Sentinel.
func (all Sentinels) Addresses() []string {
	addresses := make([]string, len(all))
	for i, sentinel := range all {
		addresses[i] = sentinel.Address
	}
	return addresses
}

// Follow reports whether all Sentinels take a server for the master.
func (all Sentinels) Follow(master *Server) bool {
	host, port, _ := net.SplitHostPort(master.Address)
	for _, sentinel := range all {
		answer := sentinel.Says("SENTINEL", "GET-MASTER-ADDR-BY-NAME", Group)
		if !strings.Contains(answer, "\r\n"+host+"\r\n") || !strings.Contains(answer, "\r\n"+port+"\r\n") {
			return false
		}
	}
	return true
}
