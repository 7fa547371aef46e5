package conformance

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

const (
	promiseHeader  = "Almost every call to the TokenKit API needs an api-key header."
	promiseBearer  = "For endpoints that mutate user-owned data, you also send a bearer token from a logged-in session."
	promiseOrigins = "allowed_origins - the domains the key can be sent from in a browser."
	promiseIPs     = "allowed_ips - the source IPs the key can be sent from when there is no Origin header."
	promiseEmpty   = "If a list is empty, no restriction on that axis."
	promiseDomain  = `Older clients can still send {"name": "...", "domain": "example.io"} and we treat it as allowed_origins: ["example.io"].`
	promiseOrigin  = "Has an Origin or X-Origin header: must match one of allowed_origins. Empty list = pass."
	promiseAddress = "No origin header: source IP must match one of allowed_ips. Empty list = pass."
	promiseLimit   = "Total successful calls per hour for this key cannot exceed rate_limit_per_hour."
	promise403     = "If a request fails the check, you get 403 Forbidden."
	promiseDeleted = "Once deleted, any request still using that key gets 401 Unauthorized."
)

func keyCases() []Case {
	return []Case{
		{Name: "a key opens a route", Promise: promiseHeader, Keys: []string{`{}`}, Steps: []Step{
			upstream(client(ok(withKey), "!x-api-key-id", "!api-key"), "!api-key", "x-api-key-id: {id}", "x-api-key-name: case", "x-api-key-owner: {owner}"),
		}},
		{Name: "a session goes along with a key", Promise: promiseBearer, Keys: []string{`{}`}, Steps: []Step{
			upstream(ok(withKey, "Authorization: Bearer {token}"), "authorization: Bearer {token}", "!api-key"),
		}},
		{Name: "a session alone is no key", Promise: promiseHeader, Steps: []Step{
			denied(401, "missing_key", "Authorization: Bearer {token}"),
		}},
		{Name: "no key", Promise: promiseHeader, Steps: []Step{
			client(denied(401, "missing_key"), `www-authenticate: ApiKey realm="api", header="api-key"`, "cache-control: no-store", "!ratelimit"),
		}},
		{Name: "unknown, malformed and deleted keys look alike", Promise: promiseDeleted, Keys: []string{`{}`}, Steps: []Step{
			ok(withKey),
			deleteKey("{id}"),
			denied(401, "invalid_key", withKey),
			denied(401, "invalid_key", "api-key: {unknown}"),
			denied(401, "invalid_key", "api-key: tk_nonsense"),
			denied(401, "invalid_key", "api-key: {key}x"),
		}, Check: func(answers []Answer) error { return alike(answers[2:]) }},
		{Name: "a deleted key stays deleted while another works", Promise: promiseDeleted, Keys: []string{`{}`, `{}`}, Steps: []Step{
			ok(withKey), deleteKey("{id}"), // once it is known everywhere
			denied(401, "invalid_key", withKey),
			ok("api-key: {key2}"),
		}},
	}
}

// alike checks that answers differ in nothing that a client can see, but for
// the date and how long they took.
func alike(answers []Answer) error {
	for i, a := range answers[1:] {
		first := answers[0]
		for _, name := range []string{"Date", "X-Envoy-Upstream-Service-Time"} {
			a.Headers.Del(name)
			first.Headers.Del(name)
		}
		if a.Status != first.Status || a.Body != first.Body || !maps.EqualFunc(a.Headers, first.Headers, slices.Equal[[]string]) {
			return fmt.Errorf("answers 1 and %d differ: %d %v %q, %d %v %q", i+2, first.Status, first.Headers, first.Body, a.Status, a.Headers, a.Body)
		}
	}
	return nil
}

func originCases() []Case {
	const two = `{"allowed_origins": ["https://app.example.io", "https://www.example.io"]}`
	return []Case{
		{Name: "one of its origins", Promise: promiseOrigins, Keys: []string{two}, Steps: []Step{
			ok(withKey, "Origin: https://app.example.io"),
			ok(withKey, "Origin: https://www.example.io"),
		}},
		{Name: "another origin", Promise: promise403, Keys: []string{two}, Steps: []Step{
			client(denied(403, "origin_not_allowed", withKey, "Origin: "+evilOrigin), "!www-authenticate"),
		}},
		{Name: "X-Origin counts too", Promise: promiseOrigin, Keys: []string{two}, Steps: []Step{
			ok(withKey, "X-Origin: https://app.example.io"),
			denied(403, "origin_not_allowed", withKey, "X-Origin: "+evilOrigin),
		}},
		{Name: "Origin counts before X-Origin", Promise: promiseOrigin, Keys: []string{two}, Steps: []Step{
			denied(403, "origin_not_allowed", withKey, "X-Origin: https://app.example.io", "Origin: "+evilOrigin),
			ok(withKey, "X-Origin: "+evilOrigin, "Origin: https://app.example.io"),
		}},
		{Name: "no origin header, no addresses", Promise: promiseAddress, Keys: []string{two}, Steps: []Step{ok(withKey)}},
		{Name: "an open key from any origin", Promise: promiseEmpty, Keys: []string{`{}`, `{"allowed_origins": [], "allowed_ips": []}`}, Steps: []Step{
			ok(withKey, "Origin: "+evilOrigin), ok(withKey), ok("api-key: {key2}", "Origin: "+evilOrigin), ok("api-key: {key2}"),
		}},
		{Name: "the legacy domain under any scheme", Promise: promiseDomain, Keys: []string{`{"domain": "example.io"}`}, Steps: []Step{
			ok(withKey, "Origin: https://example.io"),
			ok(withKey, "Origin: http://example.io"),
			denied(403, "origin_not_allowed", withKey, "Origin: https://app.example.io"),
			denied(403, "origin_not_allowed", withKey, "Origin: https://example.io.evil.example"),
		}},
		originCase("a wildcard", `["https://*.example.io"]`,
			[]string{"https://app.example.io", "https://a.b.example.io"},
			[]string{"https://example.io", "https://evilexample.io", "http://app.example.io", "https://evil.example/.example.io"}),
		originCase("default ports", `["https://app.example.io:443", "http://dev.example.io"]`,
			[]string{"https://app.example.io", "https://app.example.io:443", "http://dev.example.io:80"},
			[]string{"https://app.example.io:8443", "http://app.example.io"}),
		originCase("upper and lower case", `["https://App.Example.IO"]`,
			[]string{"https://aPP.example.io", "HTTPS://app.example.io"}, nil),
		originCase("an international name", `["https://bücher.example"]`,
			[]string{"https://xn--bcher-kva.example"}, []string{"https://bucher.example"}),
		originCase("the null origin, where listed", `["null"]`, []string{"null"}, []string{"https://null", evilOrigin}),
		originCase("the null origin, where not", `["https://app.example.io"]`, nil, []string{"null"}),
		originCase("lookalikes", `["https://app.example.io"]`, nil, []string{
			"https://app.example.io.evil.example", "https://app.example.io@evil.example", "https://app.example.io/",
			"https://evil.example#https://app.example.io", "https://app.example.io, https://app.example.io",
		}),
		{Name: "an empty Origin is an origin", Promise: promiseOrigin, Keys: []string{two, `{}`}, Steps: []Step{
			denied(403, "origin_not_allowed", withKey, "Origin:"), ok("api-key: {key2}", "Origin:"),
		}},
		{Name: "two Origin headers", Promise: promiseOrigin, Keys: []string{two}, Steps: []Step{
			denied(403, "origin_not_allowed", withKey, "Origin: https://app.example.io", "Origin: https://app.example.io"),
			denied(403, "origin_not_allowed", withKey, "X-Origin: https://app.example.io", "X-Origin: "+evilOrigin),
		}},
	}
}

func originCase(name, list string, allowed, refused []string) Case {
	c := Case{Name: name, Promise: promiseOrigin, Keys: []string{`{"allowed_origins": ` + list + `}`}}
	for _, origin := range allowed {
		c.Steps = append(c.Steps, ok(withKey, "Origin: "+origin))
	}
	for _, origin := range refused {
		c.Steps = append(c.Steps, denied(403, "origin_not_allowed", withKey, "Origin: "+origin))
	}
	return c
}

func addressCases() []Case {
	const wrong = `{"allowed_ips": ["203.0.113.10", "2001:db8::/32"]}`
	return []Case{
		{Name: "one of its addresses", Promise: promiseIPs, Keys: []string{`{"allowed_ips": ["203.0.113.10", "{address}"]}`}, Steps: []Step{
			ok(withKey), other(denied(403, "address_not_allowed", withKey)),
		}},
		{Name: "another address", Promise: promise403, Keys: []string{wrong}, Steps: []Step{denied(403, "address_not_allowed", withKey)}},
		{Name: "a CIDR prefix", Promise: promiseIPs, Keys: []string{`{"allowed_ips": ["127.0.0.0/8"]}`, `{"allowed_ips": ["127.255.0.0/16"]}`}, Steps: []Step{
			ok(withKey), denied(403, "address_not_allowed", "api-key: {key2}"),
		}},
		{Name: "an IPv4-mapped address", Promise: promiseIPs, Keys: []string{`{"allowed_ips": ["::ffff:{address}"]}`}, Steps: []Step{ok(withKey)}},
		{Name: "any origin skips the addresses", Promise: promiseOrigin, Keys: []string{wrong}, Steps: []Step{
			ok(withKey, "Origin: "+evilOrigin), denied(403, "address_not_allowed", withKey),
		}},
		{Name: "with both lists the origin decides", Promise: promiseOrigin, Keys: []string{`{"allowed_origins": ["https://app.example.io"], "allowed_ips": ["203.0.113.10"]}`}, Steps: []Step{
			ok(withKey, "Origin: "+appOrigin),
			denied(403, "origin_not_allowed", withKey, "Origin: "+evilOrigin),
			denied(403, "address_not_allowed", withKey),
		}},
		{Name: "a strict key asks for both", Keys: []string{
			`{"strict": true, "allowed_origins": ["https://app.example.io"], "allowed_ips": ["203.0.113.10"]}`,
			`{"strict": true, "allowed_origins": ["https://app.example.io"], "allowed_ips": ["{address}"]}`,
		}, Steps: []Step{
			denied(403, "address_not_allowed", withKey, "Origin: "+appOrigin),
			ok("api-key: {key2}", "Origin: "+appOrigin),
			denied(403, "origin_not_allowed", "api-key: {key2}"),
		}},
		{Name: "what a client says of its address is not believed", Promise: promiseAddress, Keys: []string{wrong}, Steps: []Step{
			denied(403, "address_not_allowed", withKey, "x-forwarded-for: 203.0.113.10"),
			denied(403, "address_not_allowed", withKey, "x-client-ip: 203.0.113.10"),
			denied(403, "address_not_allowed", withKey, "x-envoy-external-address: 203.0.113.10"),
			denied(403, "address_not_allowed", withKey, "x-real-ip: 203.0.113.10", "forwarded: for=203.0.113.10"),
		}},
		{Name: "the upstream is told the true address", Keys: []string{`{}`}, Steps: []Step{
			upstream(ok(withKey, "x-client-ip: 203.0.113.10", "x-envoy-external-address: 203.0.113.10", "x-forwarded-for: 203.0.113.10"),
				"x-client-ip: {address}", "x-envoy-external-address: {address}", "x-forwarded-for: 203.0.113.10,{address}"),
		}},
	}
}

// resetPattern matches the seconds until a call made just now is given back: an
// hour, or up to a minute more, and of limits that replicas share five seconds
// more than that.
const resetPattern = `;t=(359[0-9]|36[0-5][0-9]|366[0-5])`

func limitCases() []Case {
	return []Case{
		{Name: "a limit of two", Promise: promiseLimit, Keys: []string{`{"rate_limit_per_hour": 2}`}, Steps: []Step{
			client(ok(withKey), `ratelimit-policy: "hour";q=2;w=3600`, `ratelimit: ~"hour";r=1`+resetPattern, "!retry-after"),
			client(ok(withKey), `ratelimit: ~"hour";r=0`+resetPattern),
			client(denied(403, "rate_limited", withKey), `ratelimit-policy: "hour";q=2;w=3600`, `ratelimit: ~"hour";r=0`+resetPattern, `retry-after: ~3[0-9]{3}`),
		}},
		{Name: "denied calls spend nothing", Promise: promiseLimit, Keys: []string{`{"rate_limit_per_hour": 2, "allowed_origins": ["https://app.example.io"]}`}, Steps: []Step{
			times(3, denied(403, "origin_not_allowed", withKey, "Origin: "+evilOrigin)),
			client(ok(withKey), `ratelimit: ~"hour";r=1`+resetPattern),
			client(ok(withKey, "Origin: "+appOrigin), `ratelimit: ~"hour";r=0`+resetPattern),
		}},
		{Name: "calls with and without an origin share the limit", Promise: promiseLimit, Keys: []string{`{"rate_limit_per_hour": 1}`}, Steps: []Step{
			ok(withKey, "Origin: "+appOrigin), denied(403, "rate_limited", withKey), denied(403, "rate_limited", withKey, "Origin: "+appOrigin),
		}},
		{Name: "each key has its own limit", Promise: promiseLimit, Keys: []string{`{"rate_limit_per_hour": 1}`, `{"rate_limit_per_hour": 1}`}, Steps: []Step{
			ok(withKey), denied(403, "rate_limited", withKey), ok("api-key: {key2}"),
		}},
		{Name: "no limit", Promise: promiseLimit, Keys: []string{`{}`}, Steps: []Step{
			client(times(3, ok(withKey)), "!ratelimit", "!ratelimit-policy", "!retry-after"),
		}},
		{Name: "a preflight spends nothing", Promise: promiseLimit, Keys: []string{`{"rate_limit_per_hour": 1}`}, Steps: []Step{
			preflight(appOrigin), client(ok(withKey, "Origin: "+appOrigin), `ratelimit: ~"hour";r=0`+resetPattern),
		}},
	}
}

const promiseBlock = "Ten failures from one IP in 5 minutes blocks that IP from any further key attempts for the rest of the window."

func blockCases() []Case {
	unknown := denied(401, "invalid_key", "api-key: {unknown}")
	blocked := client(denied(403, "address_blocked", withKey), `retry-after: ~[12]?[0-9]{1,2}|300`)
	return []Case{
		{Name: "ten failures block, a good key too", Promise: promiseBlock, Keys: []string{`{}`}, Steps: []Step{
			times(10, unknown), blocked, denied(403, "address_blocked", "api-key: {unknown}"),
		}},
		{Name: "nine do not", Promise: promiseBlock, Keys: []string{`{}`}, Steps: []Step{times(9, unknown), ok(withKey)}},
		{Name: "only that address", Promise: promiseBlock, Keys: []string{`{}`}, Steps: []Step{times(10, unknown), blocked, other(ok(withKey))}},
		{Name: "blocked attempts do not extend the block", Promise: promiseBlock, Keys: []string{`{}`}, Steps: []Step{
			times(10, unknown), times(15, blocked),
		}, Check: func(answers []Answer) error {
			last := 301
			for _, a := range answers[10:] {
				left, err := strconv.Atoi(a.Headers.Get("Retry-After"))
				if err != nil || left > last {
					return fmt.Errorf("retry-after went from %d to %q", last, a.Headers.Get("Retry-After"))
				}
				last = left
			}
			return nil
		}},
		{Name: "calls without a key are no attempts", Promise: promiseBlock, Keys: []string{`{}`}, Steps: []Step{times(12, denied(401, "missing_key")), ok(withKey)}},
		{Name: "every kind of failure counts", Promise: promiseBlock, Keys: []string{
			`{"allowed_origins": ["https://app.example.io"], "allowed_ips": ["203.0.113.10"]}`, `{"rate_limit_per_hour": 1}`,
		}, Steps: []Step{
			times(2, unknown),
			times(2, denied(401, "invalid_key", "api-key: nonsense")),
			times(2, denied(403, "origin_not_allowed", withKey, "Origin: "+evilOrigin)),
			times(2, denied(403, "address_not_allowed", withKey)),
			ok("api-key: {key2}"),
			times(2, denied(403, "rate_limited", "api-key: {key2}")),
			blocked,
		}},
		{Name: "allowed calls in between do not help", Promise: promiseBlock, Keys: []string{`{}`}, Steps: []Step{
			times(5, unknown), times(3, ok(withKey)), times(5, unknown), blocked,
		}},
		{Name: "a made-up x-forwarded-for does not help", Promise: promiseBlock, Keys: []string{`{}`}, Steps: []Step{
			times(4, denied(401, "invalid_key", "api-key: {unknown}", "x-forwarded-for: 203.0.113.1")),
			times(3, denied(401, "invalid_key", "api-key: {unknown}", "x-forwarded-for: 203.0.113.2")),
			times(3, denied(401, "invalid_key", "api-key: {unknown}", "x-client-ip: 203.0.113.3")),
			blocked,
		}},
		{Name: "the admin API stays open", Promise: promiseBlock, Steps: []Step{
			times(10, unknown), admin("GET /api/users/auth/api-keys/", "", 200, `^\[`),
		}},
	}
}

const promiseOnce = "The full key is returned once. The actual key values are never returned."

func adminCases() []Case {
	return []Case{
		{Name: "log in", Promise: "POST /api/users/auth/login/ exchanges username/email + password for a session token.", Steps: []Step{
			login(`{"username": "{username}", "password": "{password}"}`, Want{Local: true, Body: `"token"`}),
			login(`{"username": "{username}", "password": "wrong"}`, Want{Status: 401, Code: "invalid_credentials"}),
		}},
		{Name: "mint a key for origins", Promise: "A frontend key for one or more web origins", Steps: []Step{
			admin("POST "+createPath, `{"name": "my-app-prod", "allowed_origins": ["https://app.example.io", "https://www.example.io"], "rate_limit_per_hour": 5000}`, 201, `"key":"tk_`),
		}},
		{Name: "mint a key for a server", Promise: "A server key for a backend job", Steps: []Step{
			admin("POST "+createPath, `{"name": "indexer-cron", "allowed_ips": ["203.0.113.10"], "rate_limit_per_hour": 10000}`, 201, `"key":"tk_`),
		}},
		{Name: "no session, no key", Promise: "Authenticated with the bearer token from login.", Keys: []string{`{}`}, Steps: []Step{
			{Request: "POST " + createPath, Headers: with("Content-Type: application/json"), Body: `{"name": "x"}`, Want: Want{Status: 401, Code: "unauthenticated"}},
			{Request: "GET /api/users/auth/api-keys/", Headers: with(), Want: Want{Status: 401, Code: "unauthenticated"}},
			{Request: "POST " + deletePath, Headers: with("Content-Type: application/json"), Body: `{"key_id": {id}}`, Want: Want{Status: 401, Code: "unauthenticated"}},
		}},
		{Name: "list keys", Promise: promiseOnce, Keys: []string{`{"name": "listed"}`}, Steps: []Step{
			admin("GET /api/users/auth/api-keys/", "", 200, `"id":{id},"name":"listed","created_at":"[^"]+","last_used_at":null`),
			admin("GET /api/users/auth/api-keys", "", 200, `"name":"listed"`),
		}, Check: func(answers []Answer) error {
			if secretPattern.MatchString(answers[0].Body) {
				return errors.New("the list shows a key")
			}
			return nil
		}},
		{Name: "delete a key", Promise: promiseDeleted, Keys: []string{`{}`}, Steps: []Step{
			ok(withKey), deleteKey("{id}"), denied(401, "invalid_key", withKey),
			admin("POST "+deletePath, `{"key_id": {id}}`, 404, `"not_found"`),
		}},
		{Name: "a name that would break a header is refused", Steps: []Step{
			admin("POST "+createPath, `{"name": "a\r\nx-evil: 1"}`, 422, `"body.name"`),
		}},
		{Name: "no API key is needed to manage keys", Promise: "POST /api/users/auth/create-api-key/. Authenticated with the bearer token from login.", Steps: []Step{
			admin("POST "+createPath, `{"name": "x"}`, 201, `"warnings"`),
		}},
	}
}

func login(body string, want Want) Step {
	return Step{Request: "POST /api/users/auth/login/", Headers: []string{"Content-Type: application/json"}, Body: body, Want: want}
}
