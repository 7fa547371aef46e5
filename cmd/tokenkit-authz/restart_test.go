package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// TestRestart restarts two services behind one Envoy in turn, by SIGTERM and
// with their defaults, while clients make requests with the same key. None may
// fail. TOKENKIT_ROUNDS is how many requests there are at least.
func TestRestart(t *testing.T) {
	t.Parallel()
	envoytest.Require(t)
	want, err := strconv.Atoi(cmp.Or(os.Getenv("TOKENKIT_ROUNDS"), "2000"))
	if err != nil {
		t.Fatalf("TOKENKIT_ROUNDS: %v", err)
	}
	services, key := twoServices(t)
	upstream := echo.Start(t)
	front := envoytest.Start(t, envoy.Options{Authz: []string{services[0].grpc, services[1].grpc}, Upstream: upstream.Address()})
	waitHealthy(t, front.AdminURL, len(services))

	l := &load{url: front.URL, key: key}
	l.start(8)
	restarts := 0
	for wantRestarts := 2 + want/20_000; restarts < wantRestarts || l.requests.Load() < int64(want); restarts++ {
		i := restarts % len(services)
		l.note(fmt.Sprintf("restart %d", restarts+1))
		services[i] = restart(t, services[i])
		l.note(fmt.Sprintf("restart %d served", restarts+1))
		waitHealthy(t, front.AdminURL, len(services))
		if t.Failed() || l.failed.Load() > 100 {
			break
		}
	}
	l.end(t)
	fmt.Printf("requests=%d restarts=%d failed=%d\n", l.requests.Load(), restarts, l.failed.Load())
}

// shippedDrain is the default of --drain, which startServer overrides.
func shippedDrain() string {
	var s settings
	s.defaults()
	return s.drain.String()
}

// twoServices starts two services over equal keys, and returns one of them.
// Each has an address of its own, so that nobody else takes its port while it
// is down.
func twoServices(t *testing.T) ([2]*server, string) {
	t.Helper()
	folders := [2]string{filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")}
	command(t, testPassword+"\n", "user", "add", testUser, "--data", folders[0])
	var created admin.CreatedKey
	out := command(t, "", "key", "create", "restarted", "--owner", testUser, "--json", "--data", folders[0])
	if err := json.Unmarshal([]byte(out), &created); err != nil {
		t.Fatal(err)
	}
	keys, err := os.ReadFile(filepath.Join(folders[0], "keys.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folders[1], 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folders[1], "keys.db"), keys, 0o600); err != nil {
		t.Fatal(err)
	}
	var services [2]*server
	for i, folder := range folders {
		services[i] = startServer(t, folder, "--grpc-listen", fmt.Sprintf("127.3.0.%d:0", i+1), "--drain", shippedDrain())
	}
	return services, created.Key
}

// restart ends a service as an init system does and starts it again on the
// same address.
func restart(t *testing.T, s *server) *server {
	t.Helper()
	s.stop(t)
	return startServer(t, s.data, "--grpc-listen", s.grpc, "--drain", shippedDrain())
}

// waitHealthy waits until Envoy has found n services healthy.
func waitHealthy(t *testing.T, adminURL string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		healthy, err := healthyServices(ctx, adminURL)
		if err != nil {
			t.Fatalf("asking Envoy which services are healthy: %v", err)
		}
		if healthy == n {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func healthyServices(ctx context.Context, adminURL string) (healthy int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, adminURL+"/clusters?format=json", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var answer struct {
		Clusters []struct {
			Name  string
			Hosts []struct {
				Health struct {
					EDS     string `json:"eds_health_status"`
					Failed  bool   `json:"failed_active_health_check"`
					Pending bool   `json:"pending_active_hc"`
				} `json:"health_status"`
			} `json:"host_statuses"`
		} `json:"cluster_statuses"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return 0, err
	}
	for _, cluster := range answer.Clusters {
		for _, host := range cluster.Hosts {
			if cluster.Name == "authz" && host.Health.EDS == "HEALTHY" && !host.Health.Failed && !host.Health.Pending {
				healthy++
			}
		}
	}
	return healthy, nil
}

// load is clients that make one request after the other.
type load struct {
	url, key         string
	requests, failed atomic.Int64
	slowest          atomic.Int64 // nanoseconds
	stop             atomic.Bool
	clients          sync.WaitGroup

	mu    sync.Mutex
	began time.Time
	log   []string // notes and the first failures
}

func (l *load) start(clients int) {
	l.began = time.Now()
	// Each connection lives as long as the load.
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	for range clients {
		l.clients.Go(func() {
			for !l.stop.Load() {
				began := time.Now()
				err := l.request(client)
				took := time.Since(began)
				l.requests.Add(1)
				for slowest := l.slowest.Load(); int64(took) > slowest && !l.slowest.CompareAndSwap(slowest, int64(took)); slowest = l.slowest.Load() {
				}
				if err != nil && l.failed.Add(1) <= 20 {
					l.note(fmt.Sprintf("failed after %v: %v", took, err))
				}
			}
		})
	}
}

func (l *load) request(client *http.Client) error {
	request, err := http.NewRequest(http.MethodGet, l.url+"/api/tokens/?common=true", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Api-Key", l.key)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", response.StatusCode, body)
	}
	return err
}

func (l *load) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, fmt.Sprintf("%8.3f s: %s", time.Since(l.began).Seconds(), text))
}

// end ends the load and reports its failures.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop.Store(true)
	l.clients.Wait()
	t.Logf("%d requests in %v, the slowest in %v", l.requests.Load(), time.Since(l.began).Round(time.Millisecond), time.Duration(l.slowest.Load()))
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed", n, l.requests.Load())
		for _, line := range l.log {
			t.Log(line)
		}
	}
}
