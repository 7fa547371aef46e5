//go:build linux

package load

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Pick says which key each request carries.
type Pick string

// The ways to pick a key.
const (
	// One is always the first key.
	One Pick = "one"
	// Zipf is a few keys often and most of them rarely.
	Zipf Pick = "zipf"
	// Absent is a key that looks like one and does not exist, another one
	// each time.
	Absent Pick = "absent"
)

// Job is load to make.
type Job struct {
	// Address is the host:port, or the path of a Unix socket, to connect to.
	Address string
	// GRPC makes Check calls to an authorization service instead of HTTP
	// requests to an Envoy.
	GRPC bool
	// Connections is how many there are. Zero: 32, or 4 with GRPC.
	Connections int
	// Streams is how many calls are under way on each connection at once,
	// with GRPC. Zero: 16.
	Streams int
	// Rate is how many requests are due a second. Zero: a closed loop.
	// There is no open loop with GRPC.
	Rate float64
	// Warmup is how long to make load before measuring.
	Warmup time.Duration
	// Duration is how long to measure.
	Duration time.Duration
	// Secrets is a file of keys, one after the other.
	Secrets string
	// Pick is how keys are picked from them. Empty: [One].
	Pick Pick
	// Seed makes the times and keys of one job those of another.
	Seed uint64
	// Header is added to each HTTP request: whole lines.
	Header string
	// Want is the status that is expected. Zero: 200.
	Want int
	// PIDs are processes whose use of the CPU is measured.
	PIDs []int
}

func (j Job) complete() (Job, error) {
	if j.Connections == 0 {
		j.Connections = 32
		if j.GRPC {
			j.Connections = 4
		}
	}
	if j.Streams == 0 {
		j.Streams = 16
	}
	if j.Pick == "" {
		j.Pick = One
	}
	if j.Want == 0 {
		j.Want = http.StatusOK
	}
	switch {
	case j.Duration <= 0:
		return j, fmt.Errorf("job: duration %v: expected more than 0", j.Duration)
	case j.Rate < 0:
		return j, fmt.Errorf("job: rate %v: expected 0 or more", j.Rate)
	case j.Rate > 0 && j.GRPC:
		return j, errors.New("job: rate: expected none for gRPC calls")
	case j.Connections < 0 || j.Streams < 0 || j.Streams > maxStreams:
		return j, fmt.Errorf("job: expected 1 or more connections and 1 to %d streams", maxStreams)
	}
	return j, nil
}

// Result is how a job went.
type Result struct {
	// Requests is how many answers came while it was measured; Failed is how
	// many of them were not what was wanted, or did not come at all.
	Requests, Failed int
	// Statuses counts answers by HTTP status; of gRPC calls, 200 is an answer
	// that allows, 403 one that denies and 500 none.
	Statuses map[int]int
	// Elapsed is how long was measured.
	Elapsed time.Duration
	// P50, P99 and Max are of the latency.
	P50, P99, Max time.Duration
	// CPU is the time that each process of the job used meanwhile.
	CPU []time.Duration
	// PerSecond is how many answers came in each whole second.
	PerSecond []int
}

// Rate returns the answers a second.
func (r *Result) Rate() float64 {
	if r.Elapsed == 0 {
		return 0
	}
	return float64(r.Requests) / r.Elapsed.Seconds()
}

// CPUPerRequest returns the CPU time that process i used for each answer.
func (r *Result) CPUPerRequest(i int) time.Duration {
	if r.Requests == 0 {
		return 0
	}
	return r.CPU[i] / time.Duration(r.Requests)
}

// Run does a job. Its error is that of a connection, or of the job itself; an
// answer that is not the wanted one is in the Result.
func Run(j Job) (*Result, error) {
	j, err := j.complete()
	if err != nil {
		return nil, err
	}
	keys, err := newKeys(j)
	if err != nil {
		return nil, err
	}
	if j.GRPC {
		return runGRPC(j, keys)
	}
	return runHTTP(j, keys)
}
