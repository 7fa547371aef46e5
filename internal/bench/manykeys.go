//go:build linux

package main

import (
	"net/http"

	"github.com/tokenkithq/authz/internal/bench/load"
)

// million is how many keys a large store has.
const million = 1_000_000

// withoutBlocks lets all of the load come from one address, however often it
// fails: an address is blocked after ten failures otherwise.
var withoutBlocks = []string{"--block-never", "127.0.0.0/8"}

// manyKeys measures stores of all sizes through Envoy, then the largest and the
// usual one without it, where Envoy does not set the pace.
func (l *lab) manyKeys() error {
	type server struct {
		*child
		keys *keyStore
	}
	servers := make(map[string]server)
	var routes []route
	for _, size := range []struct {
		n       int
		limited bool
	}{{1, true}, {1000, true}, {1000, false}, {million, true}, {million, false}} {
		keys, err := keyStoreOf(l.ctx, l.program, size.n, size.limited)
		if err != nil {
			return err
		}
		c, err := l.serve(keys, 0, withoutBlocks...)
		if err != nil {
			return err
		}
		name := caseName(size.n, size.limited)
		servers[name] = server{c, keys}
		routes = append(routes, route{name: name, authz: c.address})
	}
	front, err := l.startEnvoy(routes...)
	if err != nil {
		return err
	}
	var through, straight []*line
	add := func(n int, limited bool, pick load.Pick) *line {
		name := caseName(n, limited)
		s := servers[name]
		job := load.Job{Address: front.addresses[name], Secrets: s.keys.secrets, Pick: pick}
		if pick == load.Absent {
			job.Want = http.StatusUnauthorized
		}
		at := &line{name: name + ", " + string(pick), envoy: front.PID(), server: s.pid(), job: job}
		through = append(through, at)
		if n > 1 && limited {
			job.Address, job.GRPC = s.address, true
			if pick == load.Absent {
				job.Want = http.StatusForbidden // as every denial
			}
			straight = append(straight, &line{name: at.name, server: s.pid(), job: job})
		}
		return at
	}
	add(1, true, load.One)
	add(1000, true, load.One)
	add(1000, true, load.Zipf)
	add(1000, true, load.Absent)
	free := add(1000, false, load.Zipf)
	add(million, true, load.One)
	add(million, true, load.Zipf)
	add(million, true, load.Absent)
	add(million, false, load.Zipf)
	if err := l.inRounds(through...); err != nil {
		return err
	}
	l.table(through...)
	l.print("\n1,000,000 keys to 1,000, Zipf: requests/s %v, server CPU %v; 1,000 keys with limits to without: server CPU %v",
		ratio(perSecond, through[6], through[2]), ratio(serverCPU, through[6], through[2]), ratio(serverCPU, through[2], free))
	l.print("\nthe same without Envoy:")
	if err := l.inRounds(straight...); err != nil {
		return err
	}
	l.table(straight...)
	l.print("\n1,000,000 keys to 1,000: hot %v, Zipf %v, absent %v of the calls/s",
		ratio(perSecond, straight[3], straight[0]), ratio(perSecond, straight[4], straight[1]), ratio(perSecond, straight[5], straight[2]))
	return nil
}

func caseName(n int, limited bool) string {
	name := map[int]string{1: "1 key", 1000: "1,000 keys", million: "1,000,000 keys"}[n]
	if !limited {
		name += " without limits"
	}
	return name
}
