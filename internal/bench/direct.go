//go:build linux

package main

import (
	"fmt"

	"github.com/tokenkithq/authz/internal/bench/load"
)

// direct measures what the service could do if Envoy cost nothing, on one core
// and on two. The load is made on the same cores, so that two are not twice as
// much as one.
func (l *lab) direct() error {
	keys, err := keyStoreOf(l.ctx, l.program, 1000, true)
	if err != nil {
		return err
	}
	var lines []*line
	add := func(name string, c *child) {
		lines = append(lines, &line{name: name, server: c.pid(), job: load.Job{Address: c.address, GRPC: true, Secrets: keys.secrets, Pick: load.Zipf}})
	}
	for _, cores := range []int{1, 2} {
		allow, err := l.itself(cores, roleAllowAll)
		if err != nil {
			return err
		}
		add(fmt.Sprintf("allow-all, GOMAXPROCS=%d", cores), allow)
		ours, err := l.serve(keys, cores)
		if err != nil {
			return err
		}
		add(fmt.Sprintf("ours, GOMAXPROCS=%d", cores), ours)
	}
	if err := l.inRounds(lines...); err != nil {
		return err
	}
	l.table(lines...)
	allow1, ours1, allow2, ours2 := lines[0], lines[1], lines[2], lines[3]
	l.print("ours to allow-all on one core: calls/s %v, server CPU %v", ratio(perSecond, ours1, allow1), ratio(serverCPU, ours1, allow1))
	l.print("ours to allow-all on two cores: calls/s %v, server CPU %v", ratio(perSecond, ours2, allow2), ratio(serverCPU, ours2, allow2))
	l.print("two cores to one: ours %v, allow-all %v of the calls/s", ratio(perSecond, ours2, ours1), ratio(perSecond, allow2, allow1))
	return nil
}
