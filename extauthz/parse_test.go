package extauthz

import (
	"net/netip"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/tokenkithq/authz/apikey"
)

// pair is one header as a client sends it.
type pair struct{ name, value string }

// checkOf builds a Check as Envoy does: in the plain map repeated headers are
// joined; in the raw form each stays on its own.
func checkOf(raw bool, peer, path string, headers ...pair) *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{Path: path, Method: "GET"}
	if raw {
		http.HeaderMap = &corev3.HeaderMap{}
		for _, h := range headers {
			http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: h.name, RawValue: []byte(h.value)})
		}
	} else {
		http.Headers = map[string]string{}
		for _, h := range headers {
			if old, found := http.Headers[h.name]; found {
				h.value = old + "," + h.value
			}
			http.Headers[h.name] = h.value
		}
	}
	var address *corev3.Address
	if peer != "" {
		address = &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: peer}}}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:  &authv3.AttributeContext_Peer{Address: address},
		Request: &authv3.AttributeContext_Request{Http: http},
	}}
}

// wireOf returns a message as it is sent.
func wireOf(t testing.TB, message proto.Message) []byte {
	t.Helper()
	wire, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// parseBoth parses check from the generated type and from the wire.
func parseBoth(t *testing.T, p *parser, check *authv3.CheckRequest) parsed {
	t.Helper()
	shape, err := newCheckShape()
	if err != nil {
		t.Fatal(err)
	}
	var v view
	v.read(check, &p.wanted)
	want, wantErr := p.parse(&v)
	var reader wireReader
	if err := reader.read(&v, wireOf(t, check), shape, &p.wanted); err != nil {
		t.Fatal(err)
	}
	if got, err := p.parse(&v); got != want || (err == nil) != (wantErr == nil) {
		t.Fatalf("from the wire: %+v, from the generated type: %+v", got, want)
	}
	return want
}

func TestParseCredential(t *testing.T) {
	good, other := secretText(t, 1), secretText(t, 2)
	header := CredentialSources{Headers: []string{"api-key"}}
	all := CredentialSources{Headers: []string{"api-key", "x-key"}, QueryParameter: "key", Bearer: true}
	type want int
	const (
		missing want = iota
		malformed
		isGood
	)
	for _, c := range []struct {
		name    string
		sources CredentialSources
		path    string
		headers []pair
		want    want
		bearer  bool
	}{
		{"none", header, "/", nil, missing, false},
		{"one", header, "/", []pair{{"api-key", good}}, isGood, false},
		{"empty", header, "/", []pair{{"api-key", ""}}, malformed, false},
		{"twice the same", header, "/", []pair{{"api-key", good}, {"api-key", good}}, malformed, false},
		{"two", header, "/", []pair{{"api-key", good}, {"api-key", other}}, malformed, false},
		{"comma", header, "/", []pair{{"api-key", good + ","}}, malformed, false},
		{"comma before", header, "/", []pair{{"api-key", "," + good}}, malformed, false},
		{"too short", header, "/", []pair{{"api-key", good[:len(good)-1]}}, malformed, false},
		{"too long", header, "/", []pair{{"api-key", good + "0"}}, malformed, false},
		{"alphabet", header, "/", []pair{{"api-key", good[:20] + "!" + good[21:]}}, malformed, false},
		{"checksum", header, "/", []pair{{"api-key", good[:20] + "Z" + good[21:]}}, malformed, false},
		{"50 KB", header, "/", []pair{{"api-key", strings.Repeat("a", 50_000)}}, malformed, false},
		{"bearer is off", header, "/", []pair{{"authorization", "Bearer " + good}}, missing, false},
		{"query is off", header, "/?key=" + good, nil, missing, false},
		{"second header", all, "/", []pair{{"x-key", good}}, isGood, false},
		{"both headers", all, "/", []pair{{"api-key", good}, {"x-key", good}}, malformed, false},
		{"query", all, "/x?a=b&key=" + good + "&c", nil, isGood, false},
		{"query twice", all, "/x?key=" + good + "&key=" + good, nil, malformed, false},
		{"query name escaped", all, "/x?k%65y=" + good, nil, malformed, false},
		{"query name escaped besides", all, "/x?key=" + good + "&k%65y=" + good, nil, malformed, false},
		{"query value escaped", all, "/x?key=%74" + good[1:], nil, malformed, false},
		{"query without value", all, "/x?key", nil, malformed, false},
		{"query after a fragment", all, "/x?a#&key=" + good, nil, missing, false},
		{"query parameter that starts alike", all, "/x?key2=" + good, nil, missing, false},
		{"header and query", all, "/x?key=" + good, []pair{{"api-key", good}}, malformed, false},
		{"bearer", all, "/", []pair{{"authorization", "Bearer " + good}}, isGood, true},
		{"bearer in lower case", all, "/", []pair{{"authorization", "bearer " + good}}, isGood, true},
		{"bearer twice", all, "/", []pair{{"authorization", "Bearer " + good}, {"authorization", "Bearer " + good}}, malformed, true},
		{"bearer is the session's", all, "/", []pair{{"authorization", "Bearer session"}, {"api-key", good}}, isGood, false},
		{"basic", all, "/", []pair{{"authorization", "Basic " + good}}, missing, false},
	} {
		for _, raw := range []bool{false, true} {
			name := c.name
			if raw {
				name += ", raw"
			}
			t.Run(name, func(t *testing.T) {
				p := newParser(c.sources, ClientAddress{})
				r := parseBoth(t, &p, checkOf(raw, "192.0.2.1", c.path, c.headers...))
				secret, err := r.Credential.Secret()
				got := isGood
				switch {
				case !r.Credential.Present():
					got = missing
				case err != nil:
					got = malformed
				case secret.Reveal() != good:
					t.Fatal("another key was read")
				}
				if got != c.want {
					t.Errorf("got %d, want %d", got, c.want)
				}
				if r.bearerUsed != c.bearer {
					t.Errorf("bearer used: got %v, want %v", r.bearerUsed, c.bearer)
				}
			})
		}
	}
}

func TestParseOrigin(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []pair
		origin  string
		present bool
	}{
		{"none", nil, "", false},
		{"Origin", []pair{{"origin", "https://a.example"}}, "https://a.example", true},
		{"X-Origin", []pair{{"x-origin", "https://a.example"}}, "https://a.example", true},
		{"Origin first", []pair{{"x-origin", "https://b.example"}, {"origin", "https://a.example"}}, "https://a.example", true},
		{"an empty Origin is one", []pair{{"x-origin", "https://b.example"}, {"origin", ""}}, "", true},
		{"joined", []pair{{"origin", "https://a.example"}, {"origin", "https://b.example"}}, "https://a.example,https://b.example", true},
	} {
		for _, raw := range []bool{false, true} {
			p := newParser(CredentialSources{}, ClientAddress{})
			r := parseBoth(t, &p, checkOf(raw, "", "/", c.headers...))
			if r.Origin != c.origin || r.HasOrigin != c.present {
				t.Errorf("%s, raw %v: got %q, %v", c.name, raw, r.Origin, r.HasOrigin)
			}
		}
	}
}

func TestClientAddress(t *testing.T) {
	peer := ClientAddress{}
	header := ClientAddress{Mode: AddressHeader, Header: "x-client-ip"}
	forwarded := func(hops int) ClientAddress { return ClientAddress{Mode: AddressForwarded, TrustedHops: hops} }
	xff := func(value string) []pair { return []pair{{"x-forwarded-for", value}} }
	for _, c := range []struct {
		name    string
		address ClientAddress
		peer    string
		headers []pair
		want    string // "": unknown
	}{
		{"peer", peer, "192.0.2.1", xff("203.0.113.9"), "192.0.2.1"},
		{"peer, IPv4-mapped", peer, "::ffff:192.0.2.1", nil, "192.0.2.1"},
		{"peer, zone", peer, "fe80::1%eth0", nil, "fe80::1"},
		{"peer on a pipe", peer, "", nil, ""},
		{"header", header, "192.0.2.1", []pair{{"x-client-ip", "203.0.113.9"}}, "203.0.113.9"},
		{"header missing", header, "192.0.2.1", nil, ""},
		{"header twice", header, "192.0.2.1", []pair{{"x-client-ip", "203.0.113.9"}, {"x-client-ip", "203.0.113.8"}}, ""},
		{"header not an address", header, "192.0.2.1", []pair{{"x-client-ip", "x"}}, ""},
		{"no proxies", forwarded(0), "192.0.2.1", xff("6.6.6.6, 203.0.113.9"), "203.0.113.9"},
		{"one proxy", forwarded(1), "192.0.2.1", xff("6.6.6.6,203.0.113.9,10.0.0.1"), "203.0.113.9"},
		{"two proxies", forwarded(2), "192.0.2.1", xff("6.6.6.6, 203.0.113.9, 10.0.0.2, 10.0.0.1"), "203.0.113.9"},
		{"as many entries as proxies", forwarded(1), "192.0.2.1", xff("10.0.0.1"), "192.0.2.1"},
		{"no header", forwarded(1), "192.0.2.1", nil, "192.0.2.1"},
		{"repeated header", forwarded(1), "192.0.2.1", append(xff("203.0.113.9"), xff("10.0.0.1")...), "203.0.113.9"},
		{"entry is not an address", forwarded(1), "192.0.2.1", xff("6.6.6.6, unknown, 10.0.0.1"), ""},
		{"empty entry", forwarded(1), "192.0.2.1", xff(",10.0.0.1"), ""},
		{"IPv6", forwarded(0), "192.0.2.1", xff("2001:db8::9"), "2001:db8::9"},
	} {
		for _, raw := range []bool{false, true} {
			p := newParser(CredentialSources{}, c.address)
			r := parseBoth(t, &p, checkOf(raw, c.peer, "/", c.headers...))
			want := netip.Addr{}
			if c.want != "" {
				want = netip.MustParseAddr(c.want)
			}
			if r.Address != want {
				t.Errorf("%s, raw %v: got %v, want %v", c.name, raw, r.Address, want)
			}
		}
	}
}

// A Check with nothing in it is read as a request with nothing in it.
func TestParseEmptyCheck(t *testing.T) {
	p := newParser(CredentialSources{Headers: []string{"api-key"}, QueryParameter: "key", Bearer: true}, ClientAddress{Mode: AddressForwarded})
	for _, check := range []*authv3.CheckRequest{nil, {}, {Attributes: &authv3.AttributeContext{}}} {
		if r := parseBoth(t, &p, check); r.Request != (apikey.Request{}) {
			t.Errorf("got %+v", r.Request)
		}
	}
}

func TestParseRoute(t *testing.T) {
	p := newParser(CredentialSources{Headers: []string{"api-key"}}, ClientAddress{})
	for _, c := range []struct {
		name       string
		extensions map[string]string
		want       parsed // only what extensions say
		fault      string // the extension that an error names
	}{
		{"none", nil, parsed{}, ""},
		{"others", map[string]string{"virtual_host": "a"}, parsed{}, ""},
		{"explain", map[string]string{ExplainExtension: "true"}, parsed{explain: true}, ""},
		{"not anonymous", map[string]string{AnonymousExtension: "false"}, parsed{}, ""},
		{"anonymous", map[string]string{AnonymousExtension: "true"}, parsed{Request: apikey.Request{Anonymous: true}}, ""},
		{"cost", map[string]string{CostExtension: "25"}, parsed{Request: apikey.Request{Cost: 25}}, ""},
		{"scope", map[string]string{ScopeExtension: "reports:read"}, parsed{Request: apikey.Request{RequiredScope: "reports:read"}}, ""},
		{"anonymous?", map[string]string{AnonymousExtension: "yes"}, parsed{}, AnonymousExtension},
		{"explain?", map[string]string{ExplainExtension: "1"}, parsed{}, ExplainExtension},
		{"no cost", map[string]string{CostExtension: ""}, parsed{}, CostExtension},
		{"cost 0", map[string]string{CostExtension: "0"}, parsed{}, CostExtension},
		{"cost too large", map[string]string{CostExtension: "1000001"}, parsed{}, CostExtension},
		{"negative cost", map[string]string{CostExtension: "-1"}, parsed{}, CostExtension},
		{"no scope", map[string]string{ScopeExtension: ""}, parsed{}, ScopeExtension},
		{"a path is no name", map[string]string{ScopeExtension: "/v1/"}, parsed{}, ScopeExtension},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := checkOf(false, "192.0.2.1", "/a?b", pair{"api-key", "x"})
			check.Attributes.ContextExtensions = c.extensions
			if c.fault == "" {
				got := parseBoth(t, &p, check)
				if got.Method != "GET" || got.Path != "/a?b" {
					t.Errorf("method %q, path %q", got.Method, got.Path)
				}
				if got.explain != c.want.explain || got.Anonymous != c.want.Anonymous || got.Cost != c.want.Cost || got.RequiredScope != c.want.RequiredScope {
					t.Errorf("got %+v", got)
				}
				return
			}
			var v view
			v.read(check, &p.wanted)
			if _, err := p.parse(&v); err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("got error %v, expected one that names %s", err, c.fault)
			}
		})
	}
}

func TestParseGRPC(t *testing.T) {
	p := newParser(CredentialSources{Headers: []string{"api-key"}}, ClientAddress{})
	for contentType, want := range map[string]bool{
		"": false, "application/json": false, "application/grpc": true, "application/grpc+proto": true, "application/grpc-web": false, "application/grpcx": false,
	} {
		if got := parseBoth(t, &p, checkOf(false, "192.0.2.1", "/", pair{"content-type", contentType})); got.grpc != want {
			t.Errorf("%q: got %v", contentType, got.grpc)
		}
	}
}
