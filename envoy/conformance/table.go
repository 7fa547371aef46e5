package conformance

import (
	"strings"

	"github.com/tokenkithq/authz/envoy"
)

// Groups returns the whole table.
func Groups() []Group {
	return []Group{
		{Name: "promises", Settings: defaults(), Cases: concat(keyCases(), originCases(), addressCases(), limitCases())},
		{Name: "blocks", Settings: defaults(), Cases: blockCases()},
		{Name: "admin", Settings: defaults(), Cases: adminCases()},
		{Name: "life", Settings: defaults(), Cases: concat(lifeCases(), scopeCases(), metadataCases())},
		{Name: "credentials", Settings: defaults(), Cases: credentialCases()},
		{Name: "identity", Settings: defaults(), Cases: identityCases()},
		{Name: "paths", Settings: defaults(), Cases: concat(pathCases(), methodCases())},
		{Name: "pages", Settings: defaults(), Cases: pageCases()},
		{Name: "pages of one origin", Settings: Settings{Serve: serve(), Front: envoy.Options{Origins: []string{appOrigin}}}, Cases: pinnedPageCases()},
		{Name: "strict", Settings: Settings{Serve: serve("--strict")}, Cases: strictCases()},
		{Name: "limit status 429", Settings: Settings{Serve: serve("--limit-status", "429")}, Cases: limit429Cases()},
		{Name: "address in a header, one proxy", Settings: Settings{
			Serve: serve("--client-address", "header:x-client-ip"), Front: envoy.Options{TrustedHops: 1},
		}, Cases: oneProxyCases()},
		{Name: "address in a header, no proxy", Settings: Settings{
			Serve: serve("--client-address", "header:x-client-ip"),
		}, Cases: concat(noProxyCases(), forgedCases())},
		{Name: "address forwarded, one proxy", Settings: Settings{
			Serve: serve("--client-address", "forwarded:1"), Front: envoy.Options{TrustedHops: 1},
		}, Cases: oneProxyCases()},
		{Name: "address forwarded, no proxy", Settings: Settings{
			Serve: serve("--client-address", "forwarded:0"),
		}, Cases: concat(noProxyCases(), forgedCases())},
		{Name: "bearer keys", Settings: Settings{
			Serve: serve("--key-bearer"), Front: envoy.Options{Bearer: true},
		}, Cases: bearerCases()},
		{Name: "keys in the query", Settings: Settings{Serve: serve("--key-query", "api_key")}, Cases: queryCases()},
		{Name: "other header names", Settings: Settings{
			Serve: serve("--key-headers", "x-token", "--header-key-id", "x-id", "--header-key-name", "x-name", "--header-owner", "x-owner"),
			Front: envoy.Options{KeyHeaders: []string{"x-token"}, Identity: envoy.Identity{KeyID: "x-id", KeyName: "x-name", Owner: "x-owner"}},
		}, Cases: otherNameCases()},
		{Name: "raw headers", Settings: Settings{Serve: serve(), Front: envoy.Options{EncodeRawHeaders: true}}, Cases: rawCases()},
		{Name: "Unix socket", Settings: Settings{Serve: serve(), Socket: true}, Cases: smokeCases()},
		{Name: "forged", Settings: defaults(), Cases: concat(forgedCases(), joinedCases(), injectionCases())},
		{Name: "forged addresses behind one proxy", Settings: Settings{
			Serve: serve("--client-address", "forwarded:1"), Front: envoy.Options{TrustedHops: 1},
		}, Cases: behindCases(forgedCases())},
		{Name: "forged addresses in a header behind one proxy", Settings: Settings{
			Serve: serve("--client-address", "header:x-client-ip"), Front: envoy.Options{TrustedHops: 1},
		}, Cases: behindCases(forgedCases())},
		{Name: "no service", Settings: Settings{Serve: serve(), Unreachable: true}, Cases: noServiceCases()},
	}
}

func concat(lists ...[]Case) []Case {
	var all []Case
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

// serve returns flags, with the one that lets the admin API tell clients apart
// behind a front.
func serve(flags ...string) []string {
	return append([]string{"--admin-address-header", "x-client-ip"}, flags...)
}

func defaults() Settings { return Settings{Serve: serve()} }

const (
	appOrigin  = "https://app.example.io"
	evilOrigin = "https://evil.example"
)

// The header lines and wants that recur.
const withKey = "api-key: {key}"

func with(lines ...string) []string { return append([]string{withKey}, lines...) }

// ok is a request with these headers that is let through.
func ok(headers ...string) Step { return Step{Headers: headers} }

// denied is a request with these headers that is not.
func denied(status int, code string, headers ...string) Step {
	want := Want{Status: status, Code: code}
	if status == 401 {
		want.Client = []string{"www-authenticate"}
	}
	return Step{Headers: headers, Want: want}
}

func times(n int, s Step) Step       { s.Times = n; return s }
func other(s Step) Step              { s.Other = true; return s }
func to(request string, s Step) Step { s.Request = request; return s }

func client(s Step, rules ...string) Step { s.Want.Client = append(s.Want.Client, rules...); return s }
func upstream(s Step, rules ...string) Step {
	s.Want.Upstream = append(s.Want.Upstream, rules...)
	return s
}

// admin is a call of the admin API with a session.
func admin(request, body string, status int, answer string) Step {
	headers := []string{"Authorization: Bearer {token}"}
	if strings.HasPrefix(request, "POST") || strings.HasPrefix(request, "PATCH") {
		headers = append(headers, "Content-Type: application/json")
	}
	return Step{Request: request, Headers: headers, Body: body, Want: Want{Status: status, Local: true, Body: answer}}
}

func deleteKey(id string) Step {
	return admin("POST "+deletePath, `{"key_id": `+id+`}`, 200, `"deleted"`)
}
