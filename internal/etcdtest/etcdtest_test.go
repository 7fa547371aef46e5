package etcdtest_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/tokenkithq/authz/internal/etcdtest"
)

func TestMain(m *testing.M) {
	etcdtest.Main()
	os.Exit(m.Run())
}

// A cluster survives the loss of its leader, and a member that comes back
// knows what was written meanwhile.
func TestClusterLosesItsLeader(t *testing.T) {
	cluster := etcdtest.Start(t, 3)
	client := cluster.Client(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := client.Put(ctx, "a", "1"); err != nil {
		t.Fatal(err)
	}
	first := cluster.Leader(t)
	cluster.Members[first].Kill(t)
	cluster.Wait(t)
	if second := cluster.Leader(t); second == first {
		t.Errorf("member %d still leads", second)
	}
	if _, err := client.Put(ctx, "b", "2"); err != nil {
		t.Fatal(err)
	}
	cluster.Members[first].Start(t)
	client.SetEndpoints(cluster.Members[first].Endpoint)
	for {
		response, err := client.Get(ctx, "b")
		if err == nil && len(response.Kvs) == 1 && string(response.Kvs[0].Value) == "2" {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the member that came back does not know of the second change: %v", err)
		}
	}
}
