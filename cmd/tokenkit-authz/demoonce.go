package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// tryAll sends one request for each outcome through the proxy and prints what
// came back. It returns an error unless all came out right.
func (d *demo) tryAll(ctx context.Context, f *front, s seeds) error {
	unknown, err := unknownKey()
	if err != nil {
		return err
	}
	tries := []struct {
		what    string
		from    string // the source address: failures block it
		key     string
		origin  string
		times   int // 0: once
		status  int
		problem string
	}{
		{what: "a good key", from: "127.0.0.2", key: s.open.Key, status: 200},
		{what: "a good key from its origin", from: "127.0.0.2", key: s.web.Key, origin: demoOrigin, status: 200},
		{what: "no key", from: "127.0.0.3", status: 401, problem: "missing_key"},
		{what: "a malformed key", from: "127.0.0.3", key: "not-a-key", status: 401, problem: "invalid_key"},
		{what: "an unknown key", from: "127.0.0.3", key: unknown, status: 401, problem: "invalid_key"},
		{what: "a good key from another origin", from: "127.0.0.3", key: s.web.Key, origin: "https://evil.example", status: 403, problem: "origin_not_allowed"},
		{what: "an unknown key, ten times", from: "127.0.0.4", key: unknown, times: 10, status: 401, problem: "invalid_key"},
		{what: "then a good key: blocked", from: "127.0.0.4", key: s.open.Key, status: 403, problem: "address_blocked"},
		{what: "a good key from elsewhere", from: "127.0.0.5", key: s.open.Key, status: 200},
	}
	if !hasAddress(ctx, f.address, "127.0.0.5") {
		// With one address for all, it is the earlier failures that block it
		// before the tenth, and there is no elsewhere.
		tries = tries[:len(tries)-1]
		for i := range tries {
			tries[i].from = ""
		}
		tries[len(tries)-2].status, tries[len(tries)-2].problem = http.StatusForbidden, "address_blocked"
	}
	fmt.Fprintf(d.std.out, "The proxy is %s.\n\n", f.what)
	rows := [][3]string{{"REQUEST", "ANSWER", "AS IT SHOULD BE"}}
	wrong := 0
	for _, try := range tries {
		var status int
		var problem string
		for range max(try.times, 1) {
			var err error
			if status, problem, err = request(ctx, f.address, try.from, try.key, try.origin); err != nil {
				return fmt.Errorf("%s: %w", try.what, err)
			}
		}
		verdict := "yes"
		if status != try.status || problem != try.problem {
			verdict = strings.TrimSpace(fmt.Sprintf("NO: expected %d %s", try.status, try.problem))
			wrong++
		}
		rows = append(rows, [3]string{try.what, strings.TrimSpace(fmt.Sprintf("%d %s", status, problem)), verdict})
	}
	printTable(d.std.out, rows)
	if wrong > 0 {
		return fmt.Errorf("%d of %d requests were not answered as they should be", wrong, len(tries))
	}
	return nil
}

// unknownKey returns a well-formed key that no service knows: it is not random.
func unknownKey() (string, error) {
	secret, err := apikey.NewSecret(bytes.NewReader(make([]byte, 32)))
	return secret.Reveal(), err
}

// hasAddress reports whether connections to the proxy can come from a loopback
// address other than the usual one, as on Linux.
func hasAddress(ctx context.Context, proxy, from string) bool {
	dialer := dialerFrom(from)
	conn, err := dialer.DialContext(ctx, "tcp", proxy)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func dialerFrom(address string) *net.Dialer {
	if address == "" {
		return &net.Dialer{}
	}
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
}

func request(ctx context.Context, address, from, key, origin string) (status int, problem string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DialContext: dialerFrom(from).DialContext, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/api/tokens/?common=true", nil)
	if err != nil {
		return 0, "", err
	}
	if key != "" {
		r.Header.Set("Api-Key", key)
	}
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	response, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return 0, "", err
	}
	var told struct{ Code string }
	if response.StatusCode != http.StatusOK {
		if err := json.Unmarshal(body, &told); err != nil {
			return response.StatusCode, "(no problem in the body)", nil
		}
	}
	return response.StatusCode, told.Code, nil
}
