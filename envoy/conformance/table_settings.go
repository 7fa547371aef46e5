package conformance

import "errors"

var errShown = errors.New("the answer shows a key")

func strictCases() []Case {
	return []Case{
		{Name: "an origin does not skip the addresses", Keys: []string{`{"allowed_ips": ["203.0.113.10"]}`, `{"allowed_ips": ["{address}"]}`}, Steps: []Step{
			denied(403, "address_not_allowed", withKey, "Origin: "+appOrigin),
			ok("api-key: {key2}", "Origin: "+appOrigin), ok("api-key: {key2}"),
		}},
		{Name: "a missing origin does not skip the origins", Keys: []string{`{"allowed_origins": ["https://app.example.io"]}`}, Steps: []Step{
			denied(403, "origin_not_allowed", withKey), ok(withKey, "Origin: "+appOrigin),
		}},
		{Name: "an open key stays open", Keys: []string{`{}`}, Steps: []Step{ok(withKey), ok(withKey, "Origin: "+evilOrigin)}},
	}
}

func limit429Cases() []Case {
	limited := client(denied(429, "rate_limited", withKey), `retry-after: ~3[0-9]{3}`, `ratelimit: ~"hour";r=0`+resetPattern, `ratelimit-policy: "hour";q=1;w=3600`)
	return []Case{
		{Name: "a spent limit", Promise: promiseLimit, Keys: []string{`{"rate_limit_per_hour": 1}`}, Steps: []Step{ok(withKey), limited}},
		{Name: "it still counts towards a block", Promise: promiseBlock, Keys: []string{`{"rate_limit_per_hour": 1}`}, Steps: []Step{
			ok(withKey), times(10, limited), denied(403, "address_blocked", withKey),
		}},
		{Name: "other denials keep their status", Keys: []string{`{"allowed_ips": ["203.0.113.10"]}`}, Steps: []Step{denied(403, "address_not_allowed", withKey)}},
	}
}

// oneProxyCases hold where one proxy stands before the front and appends its
// client's address to x-forwarded-for.
func oneProxyCases() []Case {
	const server = `{"allowed_ips": ["203.0.113.10"]}`
	from := func(s Step, forwarded string) Step {
		s.Headers = append(s.Headers, "x-forwarded-for: "+forwarded)
		return s
	}
	return []Case{
		{Name: "the address that the proxy appended", Promise: promiseAddress, Keys: []string{server}, Steps: []Step{
			from(ok(withKey), "203.0.113.10"),
			from(ok(withKey), "198.51.100.1, 203.0.113.10"),
			from(denied(403, "address_not_allowed", withKey), "198.51.100.2"),
		}},
		{Name: "what stands before it is the client's own word", Promise: promiseAddress, Keys: []string{server}, Steps: []Step{
			from(denied(403, "address_not_allowed", withKey), "203.0.113.10, 198.51.100.3"),
			from(denied(403, "address_not_allowed", withKey), "203.0.113.10, 203.0.113.10, 198.51.100.3"),
			{Headers: with("x-forwarded-for: 203.0.113.10", "x-forwarded-for: 198.51.100.3"), Want: Want{Status: 403, Code: "address_not_allowed"}},
		}},
		{Name: "without the proxy's word it is the peer", Promise: promiseAddress, Keys: []string{server, `{"allowed_ips": ["{address}"]}`}, Steps: []Step{
			denied(403, "address_not_allowed", withKey), ok("api-key: {key2}"),
		}},
		{Name: "a made-up x-client-ip", Promise: promiseAddress, Keys: []string{server}, Steps: []Step{
			from(denied(403, "address_not_allowed", withKey, "x-client-ip: 203.0.113.10"), "198.51.100.4"),
			from(denied(403, "address_not_allowed", withKey, "x-client-ip: 203.0.113.10", "x-client-ip: 203.0.113.10"), "198.51.100.4"),
			upstream(from(ok(withKey, "x-client-ip: 198.51.100.5"), "203.0.113.10"), "x-client-ip: 203.0.113.10"),
		}},
		{Name: "an entry that is no address", Promise: promiseAddress, Keys: []string{server}, Steps: []Step{
			from(denied(403, "address_not_allowed", withKey), "203.0.113.10, unknown"),
			from(denied(403, "address_not_allowed", withKey), "203.0.113.10,"),
		}},
		{Name: "an IPv6 client", Promise: promiseAddress, Keys: []string{`{"allowed_ips": ["2001:db8:1::/48"]}`}, Steps: []Step{
			from(ok(withKey), "2001:db8:1:2::3"), from(denied(403, "address_not_allowed", withKey), "2001:db8:2::3"),
		}},
		{Name: "blocks are for the client, not the proxy", Promise: promiseBlock, Keys: []string{`{}`}, Steps: []Step{
			times(10, from(denied(401, "invalid_key", "api-key: {unknown}"), "192.0.2.1, 198.51.100.6")),
			from(denied(403, "address_blocked", withKey), "198.51.100.6"),
			from(ok(withKey), "198.51.100.7"),
			from(ok(withKey), "198.51.100.6, 198.51.100.7"),
		}},
	}
}

// noProxyCases hold where clients connect to the front.
func noProxyCases() []Case {
	return []Case{
		{Name: "the peer's address", Promise: promiseAddress, Keys: []string{`{"allowed_ips": ["{address}"]}`}, Steps: []Step{
			ok(withKey), other(denied(403, "address_not_allowed", withKey)),
			other(denied(403, "address_not_allowed", withKey, "x-forwarded-for: {address}")),
			other(denied(403, "address_not_allowed", withKey, "x-client-ip: {address}")),
			ok(withKey, "x-forwarded-for: 198.51.100.1"), ok(withKey, "x-client-ip: 198.51.100.1"),
		}},
		{Name: "a made-up x-forwarded-for does not help a blocked one", Promise: promiseBlock, Keys: []string{`{}`}, Steps: []Step{
			times(10, denied(401, "invalid_key", "api-key: {unknown}")),
			denied(403, "address_blocked", withKey, "x-forwarded-for: 198.51.100.1"),
			denied(403, "address_blocked", withKey, "x-client-ip: 198.51.100.1"),
			other(ok(withKey)),
		}},
	}
}

func bearerCases() []Case {
	return []Case{
		{Name: "a key as a bearer token", Keys: []string{`{}`}, Steps: []Step{
			upstream(ok("Authorization: Bearer {key}"), "!authorization", "x-api-key-id: {id}"),
			upstream(ok("authorization: bearer {key}"), "!authorization", "x-api-key-id: {id}"),
		}},
		{Name: "the header goes first, and the session passes", Promise: promiseBearer, Keys: []string{`{}`}, Steps: []Step{
			upstream(ok(withKey, "Authorization: Bearer {token}"), "authorization: Bearer {token}", "!api-key"),
		}},
		{Name: "a session is no key", Steps: []Step{denied(401, "invalid_key", "Authorization: Bearer {token}")}},
		{Name: "other schemes are none", Keys: []string{`{}`}, Steps: []Step{
			denied(401, "missing_key", "Authorization: Basic {key}"), denied(401, "missing_key", "Authorization: {key}"), denied(401, "missing_key"),
		}},
		{Name: "two of them", Keys: []string{`{}`}, Steps: []Step{denied(401, "invalid_key", "Authorization: Bearer {key}", "Authorization: Bearer {key}")}},
	}
}

func queryCases() []Case {
	seen := func(request, path string) Step { return Step{Request: request, Want: Want{Path: path}} }
	return []Case{
		{Name: "a key in the query", Keys: []string{`{}`}, Steps: []Step{
			seen("GET /api/tokens/?common=true&api_key={key}", "/api/tokens/?common=true"),
			seen("GET /api/tokens/?api_key={key}&common=true&x=%2F", "/api/tokens/?common=true&x=%2F"),
			seen("GET /api/tokens/?api_key={key}", "/api/tokens/"),
		}},
		{Name: "in the query twice", Keys: []string{`{}`}, Steps: []Step{
			to("GET /api/tokens/?api_key={key}&api_key={key}", denied(401, "invalid_key")),
			to("GET /api/tokens/?api_key={key}&api%5Fkey={key}", denied(401, "invalid_key")),
			to("GET /api/tokens/?api%5Fkey={key}", denied(401, "invalid_key")),
		}},
		{Name: "in the query and in the header", Keys: []string{`{}`}, Steps: []Step{
			to("GET /api/tokens/?api_key={key}", denied(401, "invalid_key", withKey)),
		}},
		{Name: "the header still works", Keys: []string{`{}`}, Steps: []Step{upstream(ok(withKey), "!api-key")}},
		{Name: "in no query", Steps: []Step{to("GET /api/api_key={key}", denied(401, "missing_key"))}},
	}
}

func otherNameCases() []Case {
	return []Case{
		{Name: "the header that was named", Keys: []string{`{}`}, Steps: []Step{
			upstream(ok("X-Token: {key}", "x-id: 9", "x-name: root", "x-owner: root"), "!x-token", "x-id: {id}", "x-name: case", "x-owner: {owner}", "!x-api-key-id"),
		}},
		{Name: "no other", Keys: []string{`{}`}, Steps: []Step{client(denied(401, "missing_key", withKey), `www-authenticate: ApiKey realm="api", header="x-token"`)}},
		{Name: "pages may send it", Steps: []Step{{
			Request: "OPTIONS /api/tokens/", Headers: []string{"Origin: " + appOrigin, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-token"},
			Want: Want{Local: true, Client: []string{"access-control-allow-headers: ~x-token, .*"}},
		}}},
	}
}

func rawCases() []Case {
	return append(smokeCases(),
		Case{Name: "two keys as two headers", Keys: []string{`{}`}, Steps: []Step{denied(401, "invalid_key", withKey, withKey), denied(401, "invalid_key", "api-key: {key},{key}")}},
		Case{Name: "two origins as two headers", Keys: []string{`{"allowed_origins": ["https://app.example.io"]}`}, Steps: []Step{
			denied(403, "origin_not_allowed", withKey, "Origin: "+appOrigin, "Origin: "+appOrigin), ok(withKey, "Origin: "+appOrigin),
		}},
		Case{Name: "bytes that are no text", Steps: []Step{denied(401, "invalid_key", "api-key: \xff\xfe")}},
		Case{Name: "an empty key", Steps: []Step{denied(401, "invalid_key", "api-key:")}},
		Case{Name: "an empty Origin is an origin", Keys: []string{`{"allowed_origins": ["https://app.example.io"]}`}, Steps: []Step{denied(403, "origin_not_allowed", withKey, "Origin:")}},
	)
}

// smokeCases are one request of each kind.
func smokeCases() []Case {
	return []Case{
		{Name: "a key opens a route", Promise: promiseHeader, Keys: []string{`{"rate_limit_per_hour": 9}`}, Steps: []Step{
			client(upstream(ok(withKey, "x-api-key-id: 1000"), "x-api-key-id: {id}", "!api-key"), `ratelimit: ~"hour";r=8`+resetPattern),
		}},
		{Name: "denials", Promise: promise403, Keys: []string{`{"allowed_ips": ["203.0.113.10"]}`}, Steps: []Step{
			denied(401, "missing_key"), denied(401, "invalid_key", "api-key: {unknown}"), denied(403, "address_not_allowed", withKey),
		}},
	}
}

func noServiceCases() []Case {
	unavailable := Want{Status: 503, Client: []string{"!x-api-key-id"}}
	return []Case{
		{Name: "a good key does not pass", Keys: []string{`{}`}, Steps: []Step{{Headers: with(), Want: unavailable}, {Headers: with("Origin: " + appOrigin), Want: unavailable}}},
		{Name: "nothing passes", Steps: []Step{{Want: unavailable}, {Request: "OPTIONS /", Want: unavailable}, {Request: "POST /api/tokens/", Body: "{}", Want: unavailable}}},
		{Name: "a preflight is still answered", Steps: []Step{preflight(appOrigin)}},
		{Name: "the admin API still works", Steps: []Step{admin("GET /api/users/auth/api-keys/", "", 200, `^\[`)}},
	}
}
