package envoy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/tokenkithq/authz/apikey"
)

// Route gives the requests of some paths rules of their own.
//
// A server behind Envoy that reads paths in its own way, for example in any
// case, may serve a path that no route was meant to match: it then has the
// rules of all other paths, which need a key.
type Route struct {
	// Path begins with a slash. With a slash at its end it matches all paths
	// that begin so, without one the path itself and those below it. Of
	// several that match the longest counts.
	Path string
	// Public lets every request pass without asking the service: no key is
	// looked at, and none is counted.
	Public bool
	// Anonymous lets requests without a key pass. One with a key is decided
	// as always, and counted.
	Anonymous bool
	// Scope is the name of the scope that a key must have. Empty: any key.
	Scope string
	// Cost is how many calls of a key's hourly limit one request takes.
	// Zero: 1.
	Cost int
}

// ParseRoute reads a route as text: its path and its rules, apart by spaces,
// each of "public", "anonymous", "scope=NAME" and "cost=N".
func ParseRoute(text string) (Route, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Route{}, errors.New("expected a path and rules, such as: /v1/reports scope=reports:read cost=10")
	}
	r := Route{Path: words[0]}
	for _, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		switch {
		case word == "public":
			r.Public = true
		case word == "anonymous":
			r.Anonymous = true
		case name == "scope" && value != "":
			r.Scope = value
		case name == "cost":
			cost, err := strconv.Atoi(value)
			if err != nil || cost < 1 {
				return Route{}, fmt.Errorf("rule %q: expected a number of calls, such as cost=10", word)
			}
			r.Cost = cost
		default:
			return Route{}, fmt.Errorf("rule %q: expected public, anonymous, scope=NAME or cost=N", word)
		}
	}
	return r, r.check()
}

// The names under which a route tells the service its rules, as context
// extensions of a Check.
const (
	extensionScope     = "tokenkit.scope"
	extensionCost      = "tokenkit.cost"
	extensionAnonymous = "tokenkit.anonymous"
)

// maxCost bounds the calls that one request takes.
const maxCost = 1_000_000

func checkRoutes(routes []Route) error {
	seen := map[string]bool{}
	for _, r := range routes {
		if err := r.check(); err != nil {
			return fmt.Errorf("path %q: %w", r.Path, err)
		}
		if seen[r.Path] {
			return fmt.Errorf("path %q: expected once", r.Path)
		}
		seen[r.Path] = true
	}
	return nil
}

func (r *Route) check() error {
	if !strings.HasPrefix(r.Path, "/") || strings.Contains(r.Path, "//") || strings.ContainsFunc(r.Path, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`?#%*\`, c)
	}) {
		return errors.New("expected a path such as /v1/reports/, without a query, escapes or wildcards")
	}
	for segment := range strings.SplitSeq(r.Path, "/") {
		if segment == "." || segment == ".." {
			return errors.New("expected a path without dot segments")
		}
	}
	if strings.HasPrefix(r.Path+"/", AdminPrefix) {
		return errors.New("expected a path of the upstream, not of the admin API")
	}
	if r.Public && (r.Anonymous || r.Scope != "" || r.Cost != 0) {
		return errors.New("expected no other rule beside public")
	}
	if r.Scope != "" && !apikey.ValidScopeName(r.Scope) {
		return fmt.Errorf("scope %q: expected a name such as reports:read", r.Scope)
	}
	if r.Cost < 0 || r.Cost > maxCost {
		return fmt.Errorf("cost %d: expected 1 to %d", r.Cost, maxCost)
	}
	return nil
}

// extensions are what the service is told of the route.
func (r *Route) extensions() map[string]string {
	all := map[string]string{}
	if r.Scope != "" {
		all[extensionScope] = r.Scope
	}
	if r.Cost > 1 {
		all[extensionCost] = strconv.Itoa(r.Cost)
	}
	if r.Anonymous {
		all[extensionAnonymous] = "true"
	}
	return all
}

func (r *Route) match() *routev3.RouteMatch {
	if strings.HasSuffix(r.Path, "/") {
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: r.Path}}
	}
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: r.Path}}
}

// longestFirst returns the routes in the order in which they must be tried.
func longestFirst(routes []Route) []Route {
	sorted := slices.Clone(routes)
	slices.SortStableFunc(sorted, func(a, b Route) int { return cmp.Compare(len(b.Path), len(a.Path)) })
	return sorted
}

// perRoute is the ext_authz filter's configuration for the route; nil where it
// is as for all others.
func (b *builder) perRoute(r *Route) *anypb.Any {
	if r.Public {
		return b.any(&authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_Disabled{Disabled: true}})
	}
	extensions := r.extensions()
	if len(extensions) == 0 {
		return nil
	}
	return b.any(&authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_CheckSettings{
		CheckSettings: &authzv3.CheckSettings{ContextExtensions: extensions},
	}})
}

// upstreamRoute is a route to the upstream.
func (b *builder) upstreamRoute(name string, r Route) *routev3.Route {
	action := b.routeTo(upstreamCluster)
	config := map[string]*anypb.Any{corsFilter: b.any(b.cors())}
	if own := b.perRoute(&r); own != nil {
		config[authzFilter] = own
	}
	if !r.Public {
		action.Route.RateLimits = b.rateLimits()
	}
	return &routev3.Route{Name: name, Match: r.match(), Action: action, TypedPerFilterConfig: config}
}
