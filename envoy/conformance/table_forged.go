package conformance

import (
	"fmt"
	"strings"
)

// forgedCases are what clients may try to pass for another address, in
// whichever way the service learns of it. Their allowed address is one that no
// client has, so that each request which is believed passes.
func forgedCases() []Case {
	forged := func(name string, lines ...string) Case {
		c := Case{Name: name, Promise: promiseAddress, Keys: []string{`{"allowed_ips": ["203.0.113.10"]}`}}
		for _, line := range lines {
			c.Steps = append(c.Steps, Step{Headers: append([]string{withKey}, strings.Split(line, "\n")...), Want: Want{Status: 403, Code: "address_not_allowed"}})
		}
		return c
	}
	return []Case{
		forged("a forged x-envoy-external-address", "x-envoy-external-address: 203.0.113.10", "x-envoy-external-address: 203.0.113.10\nx-envoy-internal: true"),
		forged("forged headers of other proxies", "x-real-ip: 203.0.113.10", "forwarded: for=203.0.113.10", "true-client-ip: 203.0.113.10", "cf-connecting-ip: 203.0.113.10",
			"x-original-forwarded-for: 203.0.113.10", "x-cluster-client-ip: 203.0.113.10"),
		forged("a forged header of the client's address", "x-client-ip: 203.0.113.10", "x-client-ip: 203.0.113.10\nx-client-ip: 203.0.113.10", "x-client-ip: 203.0.113.10, 203.0.113.10"),
		forged("a forged first entry of x-forwarded-for", "x-forwarded-for: 203.0.113.10, 198.51.100.9", "x-forwarded-for: 203.0.113.10\nx-forwarded-for: 198.51.100.9",
			"x-forwarded-for: 203.0.113.10,203.0.113.10,203.0.113.10,198.51.100.9", "x-forwarded-for: 203.0.113.10, 198.51.100.9, "),
	}
}

// behindCases adds to each request what a proxy before the front would; each
// case has an address of its own, so that none is blocked for another.
func behindCases(cases []Case) []Case {
	for i := range cases {
		for j := range cases[i].Steps {
			cases[i].Steps[j].Headers = append(cases[i].Steps[j].Headers, fmt.Sprintf("x-forwarded-for: 198.51.100.%d", 20+i))
		}
	}
	return cases
}

// joinedCases are values that were joined on the way, or by the client.
func joinedCases() []Case {
	const listed = `{"allowed_origins": ["https://app.example.io", "https://www.example.io"]}`
	refused := func(lines ...string) Step {
		return denied(403, "origin_not_allowed", append([]string{withKey}, lines...)...)
	}
	return []Case{
		{Name: "origins joined with a comma", Promise: promiseOrigin, Keys: []string{listed}, Steps: []Step{
			refused("Origin: https://app.example.io,https://www.example.io"), refused("Origin: https://app.example.io,"), refused("Origin: ,https://app.example.io"),
			refused("X-Origin: https://app.example.io,https://app.example.io"), refused("X-Origin: https://app.example.io, " + evilOrigin),
		}},
		{Name: "two X-Origin headers", Promise: promiseOrigin, Keys: []string{listed}, Steps: []Step{
			refused("X-Origin: https://app.example.io", "X-Origin: https://app.example.io"), refused("X-Origin: "+evilOrigin, "X-Origin: https://app.example.io"),
		}},
		{Name: "an empty Origin before a good X-Origin", Promise: promiseOrigin, Keys: []string{listed}, Steps: []Step{refused("Origin:", "X-Origin: https://app.example.io")}},
		{Name: "an Origin that is no text", Promise: promiseOrigin, Keys: []string{listed}, Steps: []Step{
			refused("Origin: https://app.example.io\xff"), refused("Origin: \xffhttps://app.example.io"),
		}},
		{Name: "an Origin of 20 KB", Promise: promiseOrigin, Keys: []string{listed}, Steps: []Step{refused("Origin: https://" + strings.Repeat("a.", 10_000) + "app.example.io")}},
		{Name: "a key of 59 KB", Steps: []Step{denied(401, "invalid_key", "api-key: "+strings.Repeat("k", 59_000))}},
	}
}

// injectionCases are names and metadata of keys that would be more than one
// header, or another one, at the upstream.
func injectionCases() []Case {
	create := func(body, place string) Step {
		return admin("POST "+createPath, body, 422, place)
	}
	return []Case{
		{Name: "control characters in a name are refused", Steps: []Step{
			create(`{"name": "a\nx-api-key-owner: root"}`, `"body\.name"`), create(`{"name": "a\u0000b"}`, `"body\.name"`), create(`{"name": "a\u001bb"}`, `"body\.name"`),
			create(`{"name": "a\u007f"}`, `"body\.name"`), create(`{"name": "a\u2028b"}`, `"body\.name"`),
		}},
		{Name: "control characters in metadata are refused", Steps: []Step{
			create(`{"name": "a", "metadata": {"team": "a\u0000"}}`, `body\.metadata\.team`), create(`{"name": "a", "metadata": {"team": "a\r"}}`, `body\.metadata\.team`),
			create(`{"name": "a", "metadata": {"team: x": "a"}}`, `body\.metadata`), create(`{"name": "a", "metadata": {"x\r\ny": "a"}}`, `body\.metadata`),
		}},
		{Name: "escapes in a name stay as they are", Keys: []string{`{"name": "a%0d%0ax-evil: 1"}`}, Steps: []Step{
			upstream(ok(withKey), "x-api-key-name: a%250d%250ax-evil: 1", "!x-evil"),
		}},
		{Name: "metadata cannot end its own text", Keys: []string{`{"metadata": {"plan": "free\", role=\"root", "team": "a\\"}}`}, Steps: []Step{
			upstream(ok(withKey), `x-api-key-metadata: plan="free%22, role=%22root", team="a%5C"`),
		}},
	}
}
