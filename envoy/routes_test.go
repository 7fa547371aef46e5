package envoy_test

import (
	"strings"
	"testing"

	"github.com/tokenkithq/authz/envoy"
)

func TestParseRoute(t *testing.T) {
	for _, c := range []struct {
		text string
		want envoy.Route
		err  string
	}{
		{"/healthz public", envoy.Route{Path: "/healthz", Public: true}, ""},
		{" /v1/x  scope=a:b cost=10 anonymous ", envoy.Route{Path: "/v1/x", Scope: "a:b", Cost: 10, Anonymous: true}, ""},
		{"/v1/", envoy.Route{Path: "/v1/"}, ""},
		{"", envoy.Route{}, "expected a path and rules"},
		{"/v1 cost=0", envoy.Route{}, `rule "cost=0": expected a number`},
		{"/v1 cost=1e3", envoy.Route{}, `rule "cost=1e3": expected a number`},
		{"/v1 scope=", envoy.Route{}, `rule "scope=": expected public`},
		{"/v1 open", envoy.Route{}, `rule "open": expected public`},
		{"v1 public", envoy.Route{}, "expected a path such as"},
		{"/v1 public cost=2", envoy.Route{}, "expected no other rule"},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, err := envoy.ParseRoute(c.text)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
			if err == nil && got != c.want {
				t.Errorf("got %+v", got)
			}
		})
	}
}
