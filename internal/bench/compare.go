//go:build linux

package main

import (
	"fmt"
	"os"
	"time"

	keyauthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/api_key_auth/v3"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/bench/load"
)

// compare measures no auth, the filter that Envoy has, a service that decides
// nothing and this one. Requests a second and CPU come from a closed loop,
// latency from an open one, at a rate that all can stand.
func (l *lab) compare() error {
	keys, err := keyStoreOf(l.ctx, l.program, 1000, true)
	if err != nil {
		return err
	}
	allow, err := l.itself(0, roleAllowAll)
	if err != nil {
		return err
	}
	ours, err := l.serve(keys, 0)
	if err != nil {
		return err
	}
	native, err := nativeKeys(keys)
	if err != nil {
		return err
	}
	front, err := l.startEnvoy(
		route{name: "none", connections: without(authzFilter)},
		route{name: "native", connections: instead("envoy.filters.http.api_key_auth", native)},
		route{name: "allow-all", authz: allow.address},
		route{name: "ours", authz: ours.address},
	)
	if err != nil {
		return err
	}
	at := func(name, route string, server int, rate float64) *line {
		return &line{name: name, envoy: front.PID(), server: server, job: load.Job{
			Address: front.addresses[route], Secrets: keys.secrets, Pick: load.Zipf, Rate: rate,
		}}
	}
	rate, err := l.calmRate(at("allow-all", "allow-all", allow.pid(), 0))
	if err != nil {
		return err
	}
	allowFull, oursFull := at("(c) allow-all", "allow-all", allow.pid(), 0), at("(d) ours, 1,000 keys", "ours", ours.pid(), 0)
	allowCalm, oursCalm := at("(c) allow-all, fixed rate", "allow-all", allow.pid(), rate), at("(d) ours, fixed rate", "ours", ours.pid(), rate)
	lines := []*line{at("(a) no auth", "none", 0, 0), at("(b) native api_key_auth", "native", 0, 0), allowFull, oursFull, allowCalm, oursCalm}
	if err := l.inRounds(lines...); err != nil {
		return err
	}
	l.table(lines...)
	cpu, rps, tail := ratio(serverCPU, oursFull, allowFull), ratio(perSecond, oursFull, allowFull), ratio(p99, oursCalm, allowCalm)
	l.print("ours to allow-all: server CPU %v, requests/s %v, p99 at %.0f requests/s %v", cpu, rps, rate, tail)
	l.print("server CPU at that rate %v, Envoy CPU %v", ratio(serverCPU, oursCalm, allowCalm), ratio(envoyCPU, oursFull, allowFull))
	l.last = fmt.Sprintf("cpu_ratio=%.2f rps_ratio=%.2f p99_ratio=%.2f", cpu.median, rps.median, tail.median)
	return nil
}

// calmShare is the fixed rate at which latency is compared, as a share of what
// a service that decides nothing can do.
const calmShare = 0.6

// calmRate finds that rate, and warms up what is on the way.
func (l *lab) calmRate(full *line) (float64, error) {
	full.job.Duration = max(l.duration/2, 300*time.Millisecond)
	if err := l.once(full, 0); err != nil {
		return 0, err
	}
	const whole = 100
	return float64(int(full.of(perSecond).median*calmShare/whole)) * whole, nil
}

// nativeKeys is the configuration of Envoy's own filter with the same keys.
func nativeKeys(keys *keyStore) (*keyauthv3.ApiKeyAuth, error) {
	secrets, err := os.ReadFile(keys.secrets)
	if err != nil {
		return nil, err
	}
	config := &keyauthv3.ApiKeyAuth{KeySources: []*keyauthv3.KeySource{{Header: "api-key"}}}
	for i := 0; i+apikey.SecretLength <= len(secrets); i += apikey.SecretLength {
		config.Credentials = append(config.Credentials, &keyauthv3.Credential{
			Key: string(secrets[i : i+apikey.SecretLength]), Client: fmt.Sprint("client-", i/apikey.SecretLength),
		})
	}
	return config, nil
}
