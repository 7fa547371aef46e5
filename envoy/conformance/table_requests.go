package conformance

import (
	"regexp"
	"strings"

	"github.com/tokenkithq/authz/apikey"
)

var secretPattern = regexp.MustCompile(apikey.SecretPattern)

func credentialCases() []Case {
	invalid := func(lines ...string) Step { return denied(401, "invalid_key", lines...) }
	return []Case{
		{Name: "the header's name in any case", Keys: []string{`{}`}, Steps: []Step{ok("API-KEY: {key}"), ok("Api-Key: {key}")}},
		{Name: "spaces around the value are none of it", Keys: []string{`{}`}, Steps: []Step{ok("api-key:   {key}  "), ok("api-key:{key}")}},
		{Name: "the same key twice", Keys: []string{`{}`}, Steps: []Step{invalid(withKey, withKey)}},
		{Name: "two keys", Keys: []string{`{}`, `{}`}, Steps: []Step{invalid(withKey, "api-key: {key2}"), invalid("api-key: {unknown}", withKey)}},
		{Name: "keys joined with a comma", Keys: []string{`{}`}, Steps: []Step{invalid("api-key: {key},{key}"), invalid("api-key: {key},"), invalid("api-key: ,{key}")}},
		{Name: "an empty key", Steps: []Step{invalid("api-key:"), invalid("api-key: ")}},
		{Name: "a key in another case", Keys: []string{`{}`}, Steps: []Step{invalid("api-key: TK_{key}"), invalid("api-key: Bearer {key}")}},
		{Name: "a key with more after it", Keys: []string{`{}`}, Steps: []Step{invalid("api-key: {key}0"), invalid("api-key: {key} x"), invalid("api-key: {key};v=1")}},
		{Name: "bytes that are no text", Steps: []Step{invalid("api-key: \xff\xfe\x80"), invalid("api-key: tk_\xc3\x28")}},
		{Name: "a key of 50 KB", Steps: []Step{invalid("api-key: " + strings.Repeat("a", 50_000))}},
		{Name: "a header too large", Steps: []Step{{Headers: []string{"api-key: " + strings.Repeat("a", 70_000)}, Want: Want{Status: 431}}}},
		{Name: "a NUL in the key", Keys: []string{`{}`}, Steps: []Step{{Headers: []string{"api-key: {key}\x00"}, Want: Want{Status: 400}}}},
		{Name: "not as a bearer token, unless told", Keys: []string{`{}`}, Steps: []Step{denied(401, "missing_key", "Authorization: Bearer {key}")}},
		{Name: "not in the query, unless told", Keys: []string{`{}`}, Steps: []Step{
			to("GET /api/tokens/?api-key={key}", denied(401, "missing_key")), to("GET /api/tokens/?api_key={key}", denied(401, "missing_key")),
		}},
		{Name: "not in a cookie", Keys: []string{`{}`}, Steps: []Step{denied(401, "missing_key", "Cookie: api-key={key}")}},
		{Name: "underscores for hyphens", Keys: []string{`{}`}, Steps: []Step{
			{Headers: []string{"api_key: {key}"}, Want: Want{Status: 400}},
		}},
	}
}

func identityCases() []Case {
	return []Case{
		{Name: "made-up identity headers are replaced", Keys: []string{`{}`}, Steps: []Step{
			upstream(ok(withKey, "x-api-key-id: 1000", "X-Api-Key-Name: root", "x-api-key-owner: root"),
				"x-api-key-id: {id}", "x-api-key-name: case", "x-api-key-owner: {owner}"),
			upstream(ok("x-api-key-id: 1000", "x-api-key-id: 1001", withKey), "x-api-key-id: {id}"),
		}},
		{Name: "with underscores they are refused", Keys: []string{`{}`}, Steps: []Step{
			{Headers: with("x_api_key_id: 1000"), Want: Want{Status: 400}},
			{Headers: with("x-api_key-owner: root"), Want: Want{Status: 400}},
		}},
		{Name: "a Connection header does not remove them", Keys: []string{`{}`}, Steps: []Step{
			upstream(ok(withKey, "Connection: close, x-api-key-id, x-api-key-owner, x-client-ip"),
				"x-api-key-id: {id}", "x-api-key-owner: {owner}", "x-client-ip: {address}"),
		}},
		{Name: "a header named in Connection is for the front only", Keys: []string{`{}`}, Steps: []Step{
			denied(401, "missing_key", withKey, "Connection: close, api-key"),
		}},
		{Name: "a Connection header does not hide where a request comes from", Keys: []string{`{}`}, Steps: []Step{
			{Headers: with("Connection: close, x-forwarded-for", "x-forwarded-for: 203.0.113.10"), Want: Want{Status: 400}},
		}},
		{Name: "nobody steers the front", Keys: []string{`{}`}, Steps: []Step{
			upstream(ok(withKey, "x-envoy-external-address: 203.0.113.10", "x-envoy-internal: true", "x-envoy-upstream-rq-timeout-ms: 1", "x-envoy-retry-on: 5xx"),
				"x-envoy-external-address: {address}", "!x-envoy-internal", "!x-envoy-upstream-rq-timeout-ms", "!x-envoy-retry-on"),
		}},
		{Name: "a name beyond ASCII is percent-encoded", Keys: []string{`{"name": "Zoë 100% ☕"}`}, Steps: []Step{
			upstream(ok(withKey), "x-api-key-name: Zo%C3%AB 100%25 %E2%98%95"),
		}},
		{Name: "the key is not in the answer", Keys: []string{`{}`}, Steps: []Step{
			{Headers: with(), Want: Want{Body: `"method":"GET"`, Client: []string{"!api-key", "!x-api-key-id", "!x-api-key-owner"}}},
		}, Check: func(answers []Answer) error {
			if secretPattern.MatchString(answers[0].Body) {
				return errShown
			}
			return nil
		}},
		{Name: "other headers pass unchanged", Keys: []string{`{}`}, Steps: []Step{
			upstream(ok(withKey, "Accept: application/json", "Cookie: a=b; c=d", "X-Custom: 1"), "accept: application/json", "cookie: a=b; c=d", "x-custom: 1"),
		}},
	}
}

func pathCases() []Case {
	missing := func(path string) Step { return to("GET "+path, denied(401, "missing_key")) }
	refused := func(path string) Step { return Step{Request: "GET " + path, Want: Want{Status: 400}} }
	notFound := func(path string) Step {
		return Step{Request: "GET " + path, Want: Want{Status: 404, Code: "not_found"}}
	}
	passes := func(path, seen string) Step {
		return Step{Request: "GET " + path, Headers: with(), Want: Want{Path: seen}}
	}
	return []Case{
		{Name: "out of the admin API with dots", Keys: []string{`{}`}, Steps: []Step{
			missing("/api/users/auth/../../tokens/"), missing("/api/users/auth/login/../../../tokens/?x=1"),
			missing("/api/users/auth/.."), missing("/api/users/auth/./../x"),
			passes("/api/users/auth/../../tokens/?x=/../y", "/api/tokens/?x=/../y"),
		}},
		{Name: "out of the admin API with escaped dots", Steps: []Step{
			missing("/api/users/auth/%2e%2e/%2e%2e/tokens/"), missing("/api/users/auth/.%2E/tokens/"), missing("/api/users/auth/%2E./x"),
		}},
		{Name: "out of the admin API with backslashes", Steps: []Step{missing(`/api/users/auth/..\..\tokens/`), missing(`/api\users\auth/..\..\tokens/`)}},
		{Name: "escaped slashes", Keys: []string{`{}`}, Steps: []Step{
			refused("/api/users/auth/..%2f..%2ftokens/"), refused("/api/users/auth%2F..%2Ftokens/"), refused("/api/tokens%5c..%5Cx"),
			{Request: "GET /api/tokens/%2f", Headers: with(), Want: Want{Status: 400}},
			passes("/api/tokens/?next=%2Fhome", ""),
		}},
		{Name: "dots with parameters", Keys: []string{`{}`}, Steps: []Step{
			missing("/api/users/auth/..;/..;/tokens/"), notFound("/api/users/auth/%2e%2e;x=1/tokens/"), notFound("/api/users/auth/;/tokens/"),
			passes("/a/..;x/b/.;/c;y", "/b/c;y"),
		}},
		{Name: "repeated slashes", Keys: []string{`{}`}, Steps: []Step{
			missing("//api//tokens/"), missing("///"), passes("/api//tokens///x", "/api/tokens/x"), notFound("/api//users/auth//tokens/"),
			missing("/api/users/auth//../..//..//tokens/"),
		}},
		{Name: "names like the admin API's", Steps: []Step{
			missing("/api/users/auth"), missing("/api/users/authx/"), missing("/API/USERS/AUTH/login/"), missing("/x/api/users/auth/login/"),
			missing("/api/users/auth?/login/"),
		}},
		{Name: "escapes that are none", Keys: []string{`{}`}, Steps: []Step{
			passes("/%61pi/%74okens/%7e%2D%2520%20", "/api/tokens/~-%2520%20"), notFound("/api/users/%61uth/tokens/"),
			{Request: "GET /api/tokens/%00", Headers: with(), Want: Want{Status: 400}},
		}},
		{Name: "unknown paths below the admin API", Steps: []Step{notFound("/api/users/auth/tokens/"), notFound("/api/users/auth/%2561")}},
		{Name: "a fragment", Keys: []string{`{}`}, Steps: []Step{
			{Request: "GET /api/tokens/#/api/users/auth/", Headers: with(), Want: Want{Status: 400}},
		}},
		{Name: "a double escape stays one", Keys: []string{`{}`}, Steps: []Step{passes("/api/tokens/%252f%2541", "")}},
		{Name: "a whole URL", Keys: []string{`{}`}, Steps: []Step{
			missing("http://{front}/api/tokens/"), passes("http://{front}/api/tokens/?common=true", "/api/tokens/?common=true"),
			missing("http://{front}/api/users/auth/../../tokens/"),
		}},
		{Name: "any host name", Keys: []string{`{}`}, Steps: []Step{
			ok(withKey, "Host: other.example"), denied(401, "missing_key", "Host: other.example"), denied(401, "missing_key", "Host: a.example:8080"),
			{Headers: with("Host: a.example, b.example"), Want: Want{Status: 400}},
		}},
		{Name: "the root", Keys: []string{`{}`}, Steps: []Step{missing("/"), passes("/", "")}},
	}
}

func methodCases() []Case {
	const body = `{"a": [1, 2, 3]}`
	webSocket := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	return []Case{
		{Name: "a body passes", Keys: []string{`{}`}, Steps: []Step{
			{Request: "POST /api/trackers/", Headers: with("Content-Type: application/json"), Body: body},
			{Request: "PUT /api/trackers/1", Headers: with(), Body: strings.Repeat("0123456789", 5000)},
		}},
		{Name: "a chunked body passes", Keys: []string{`{}`}, Steps: []Step{
			{Request: "POST /api/trackers/", Headers: with("Transfer-Encoding: chunked"), Body: "5\r\nhello\r\n0\r\n\r\n", Want: Want{UpstreamBody: "hello"}},
		}},
		{Name: "a body without a key does not", Steps: []Step{
			{Request: "POST /api/trackers/", Body: body, Want: Want{Status: 401, Code: "missing_key"}},
		}},
		{Name: "every method needs a key", Steps: []Step{
			to("DELETE /api/tokens/1", denied(401, "missing_key")), to("PATCH /api/tokens/1", denied(401, "missing_key")),
			to("OPTIONS /api/tokens/", denied(401, "missing_key")), to("TRACE /api/tokens/", Step{Want: Want{Status: 401}}),
			{Request: "BREW /api/tokens/", Want: Want{Status: 400}},
		}},
		{Name: "HEAD", Keys: []string{`{}`}, Steps: []Step{
			{Request: "HEAD /api/tokens/", Headers: with(), Want: Want{Body: `^$`}},
			{Request: "HEAD /api/tokens/", Want: Want{Status: 401, Body: `^$`, Client: []string{"www-authenticate"}}},
		}},
		{Name: "OPTIONS with a key", Keys: []string{`{}`}, Steps: []Step{to("OPTIONS /api/tokens/", ok(withKey))}},
		{Name: "OPTIONS of the server", Keys: []string{`{}`}, Steps: []Step{{Request: "OPTIONS *", Headers: with(), Want: Want{Status: 404}}}},
		{Name: "CONNECT", Keys: []string{`{}`}, Steps: []Step{{Request: "CONNECT upstream.example:80", Headers: with("Host: upstream.example:80"), Want: Want{Status: 404}}}},
		{Name: "a WebSocket", Keys: []string{`{}`}, Steps: []Step{
			{Headers: webSocket, Want: Want{Status: 401, Code: "missing_key"}},
			{Headers: with(webSocket...), Want: Want{Status: 101, Upstream: []string{"!api-key", "x-api-key-id: {id}", "upgrade: websocket"}}},
		}},
	}
}

// preflight is what a browser sends before a page's request with a key.
func preflight(origin string) Step {
	return Step{
		Request: "OPTIONS /api/tokens/?common=true",
		Headers: []string{"Origin: " + origin, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: api-key"},
		Want: Want{Local: true, Client: []string{
			"access-control-allow-origin: " + origin, "access-control-allow-methods: ~.*GET.*POST.*DELETE.*",
			"access-control-allow-headers: ~api-key, authorization, content-type, x-origin", "access-control-max-age: 600",
			"!access-control-allow-credentials",
		}},
	}
}

func pageCases() []Case {
	readable := []string{"access-control-allow-origin: " + appOrigin, "access-control-expose-headers: RateLimit, RateLimit-Policy, Retry-After", "!access-control-allow-credentials"}
	return []Case{
		{Name: "a preflight is answered without a key", Steps: []Step{preflight(appOrigin), preflight(evilOrigin)}},
		{Name: "a page can read an answer", Keys: []string{`{"allowed_origins": ["https://app.example.io"], "rate_limit_per_hour": 10}`}, Steps: []Step{
			client(ok(withKey, "Origin: "+appOrigin), append(readable, "ratelimit", "ratelimit-policy")...),
		}},
		{Name: "a page can read why not", Keys: []string{`{"allowed_origins": ["https://other.example"]}`}, Steps: []Step{
			client(denied(403, "origin_not_allowed", withKey, "Origin: "+appOrigin), readable...),
			client(denied(401, "missing_key", "Origin: "+appOrigin), readable...),
		}},
		{Name: "no Origin, nothing for pages", Keys: []string{`{}`}, Steps: []Step{client(ok(withKey), "!access-control-allow-origin", "!access-control-expose-headers")}},
		{Name: "OPTIONS that is no preflight needs a key", Steps: []Step{
			to("OPTIONS /api/tokens/", denied(401, "missing_key", "Origin: "+appOrigin)),
			to("OPTIONS /api/tokens/", denied(401, "missing_key", "Access-Control-Request-Method: GET")),
			to("OPTIONS /api/tokens/", denied(401, "missing_key", "Origin: "+appOrigin, "Access-Control-Request-Method:")),
		}},
		{Name: "GET with a preflight's headers needs a key", Steps: []Step{
			denied(401, "missing_key", "Origin: "+appOrigin, "Access-Control-Request-Method: GET"),
		}},
		{Name: "no page may use the admin API", Steps: []Step{
			{Request: "OPTIONS /api/users/auth/login/", Headers: []string{"Origin: " + appOrigin, "Access-Control-Request-Method: POST"},
				Want: Want{Status: 405, Client: []string{"!access-control-allow-origin"}}},
			{Request: "POST /api/users/auth/login/", Headers: []string{"Origin: " + evilOrigin, "Sec-Fetch-Site: cross-site", "Content-Type: application/json"},
				Body: `{"username": "{username}", "password": "{password}"}`, Want: Want{Status: 403, Code: "cross_origin", Client: []string{"!access-control-allow-origin"}}},
		}},
	}
}

func pinnedPageCases() []Case {
	return []Case{
		{Name: "a preflight from the origin", Steps: []Step{preflight(appOrigin)}},
		{Name: "a preflight from another is no preflight", Steps: []Step{
			to("OPTIONS /api/tokens/", client(denied(401, "missing_key", "Origin: "+evilOrigin, "Access-Control-Request-Method: GET"), "!access-control-allow-origin")),
			to("OPTIONS /api/tokens/", client(denied(401, "missing_key", "Origin: "+appOrigin+".evil.example", "Access-Control-Request-Method: GET"), "!access-control-allow-origin")),
		}},
		{Name: "answers are readable there only", Keys: []string{`{}`}, Steps: []Step{
			client(ok(withKey, "Origin: "+appOrigin), "access-control-allow-origin: "+appOrigin),
			client(ok(withKey, "Origin: "+evilOrigin), "!access-control-allow-origin"),
		}},
	}
}
