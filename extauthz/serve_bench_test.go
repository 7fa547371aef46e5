package extauthz

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// benchServer is the environment variable that makes the test program a
// server of its value's kind: a server is measured alone in its process.
const benchServer = "EXTAUTHZ_BENCH_SERVER"

func TestMain(m *testing.M) {
	if kind := os.Getenv(benchServer); kind != "" {
		if err := serveBench(kind, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// BenchmarkServe compares servers under the same load, in turns: what each
// spends of its process's CPU time on a Check, and the ratio to a server that
// reads Checks in the usual way and allows all. Each number is the median of
// the turns. EXTAUTHZ_BENCH_KINDS names other kinds to compare, see [serveBench].
func BenchmarkServe(b *testing.B) {
	kinds := strings.Fields(cmp.Or(os.Getenv("EXTAUTHZ_BENCH_KINDS"), "allow-all ours,workers=64"))
	const turn = 5_000
	servers := make([]*served, len(kinds))
	for i, kind := range kinds {
		servers[i] = startServed(b, kind)
		servers[i].load(b, turn) // warm up
	}
	turns := 0
	b.ResetTimer()
	for b.Loop() {
		turns++
		for _, s := range servers {
			cpu, start := s.cpu(b), time.Now()
			s.load(b, turn)
			s.rates = append(s.rates, turn/time.Since(start).Seconds())
			s.costs = append(s.costs, float64(s.cpu(b)-cpu)/turn)
		}
	}
	for _, s := range servers {
		ratios := make([]float64, turns)
		for i := range ratios {
			ratios[i] = s.costs[i] / servers[0].costs[i]
		}
		b.ReportMetric(median(s.costs), s.kind+"-cpu-ns/check")
		b.ReportMetric(median(s.rates), s.kind+"-checks/s")
		if s != servers[0] {
			b.ReportMetric(median(ratios), s.kind+"-cpu-ratio")
		}
	}
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// served is a server in a process of its own.
type served struct {
	kind         string
	in           io.Writer
	out          *bufio.Scanner
	conn         *grpc.ClientConn
	costs, rates []float64
}

func startServed(b *testing.B, kind string) *served {
	b.Helper()
	ctx, stop := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, os.Args[0])
	command.Env = append(os.Environ(), benchServer+"="+kind)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stop()
		_ = command.Wait()
	})
	s := &served{kind: kind, in: in, out: bufio.NewScanner(out)}
	address := s.line(b)
	s.conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.conn.Close() })
	return s
}

func (s *served) line(b *testing.B) string {
	b.Helper()
	if !s.out.Scan() {
		b.Fatalf("server %s ended: %v", s.kind, s.out.Err())
	}
	return s.out.Text()
}

// cpu returns what the server's process has spent of CPU time.
func (s *served) cpu(b *testing.B) time.Duration {
	b.Helper()
	if _, err := io.WriteString(s.in, "cpu\n"); err != nil {
		b.Fatal(err)
	}
	n, err := strconv.ParseInt(s.line(b), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n)
}

// load sends n Checks over one connection, as a worker of Envoy's does, 32 at
// a time.
func (s *served) load(b *testing.B, n int) {
	b.Helper()
	wire := wireOf(b, envoyCheck(b))
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			var answer []byte
			for left.Add(-1) >= 0 {
				if err := s.conn.Invoke(b.Context(), authv3.Authorization_Check_FullMethodName, wire, &answer); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
