package apikey

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Scope is one thing that a key may be used for: a prefix of paths, with or
// without methods, or a name that routes ask for. The zero Scope permits
// nothing.
type Scope struct {
	methods []string // sorted; empty: any
	path    string   // begins with a slash, or empty
	name    string   // or empty
}

// maxScopeLength bounds the text of a scope, in bytes.
const maxScopeLength = 200

// ParseScope reads a scope:
//
//   - "/v1/tokens/" permits the paths that begin so, and "/v1/tokens" that
//     path and those below it;
//   - "GET,HEAD /v1/tokens/" permits the same for these methods only;
//   - "reports:read" permits the routes that ask for this name.
func ParseScope(text string) (Scope, error) {
	if len(text) > maxScopeLength {
		return Scope{}, fmt.Errorf("expected at most %d bytes, got %d", maxScopeLength, len(text))
	}
	methods, path, found := strings.Cut(text, " ")
	if !found {
		methods, path = "", text
	}
	if !strings.HasPrefix(path, "/") {
		if found || !validScopeName(text) {
			return Scope{}, errors.New(`expected a path such as "/v1/", a path with methods such as "GET,HEAD /v1/", or a name such as "reports:read"`)
		}
		return Scope{name: text}, nil
	}
	if !plainPath(path) || strings.ContainsAny(path, "?#*%") {
		return Scope{}, fmt.Errorf("path %q: expected one without dot segments, doubled slashes, escapes, wildcards or a query", path)
	}
	scope := Scope{path: path}
	if found {
		for method := range strings.SplitSeq(methods, ",") {
			if !validMethod(method) {
				return Scope{}, fmt.Errorf("method %q: expected an HTTP method in capital letters", method)
			}
			scope.methods = append(scope.methods, method)
		}
		slices.Sort(scope.methods)
		scope.methods = slices.Compact(scope.methods)
	}
	return scope, nil
}

// String returns the scope in canonical form, which [ParseScope] reads.
func (s Scope) String() string {
	if len(s.methods) > 0 {
		return strings.Join(s.methods, ",") + " " + s.path
	}
	return s.path + s.name
}

func validMethod(method string) bool {
	return method != "" && !strings.ContainsFunc(method, func(r rune) bool { return (r < 'A' || r > 'Z') && r != '-' && r != '_' })
}

func validScopeName(name string) bool {
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._:-", r)
	})
}

// ValidScopeName reports whether a route may ask for a scope of this name.
func ValidScopeName(name string) bool { return len(name) <= maxScopeLength && validScopeName(name) }

// isZero reports whether s permits nothing.
func (s *Scope) isZero() bool { return s.path == "" && s.name == "" }

// scopesAllow reports whether a request is within scopes:
//
//   - no scopes permit everything;
//   - a route that asks for a name needs that name among them;
//   - a request's method and path must be those of one scope with a path, if
//     there is such a scope or the route asks for no name.
func scopesAllow(scopes []Scope, request *Request) bool {
	if len(scopes) == 0 {
		return true
	}
	named, paths, matched := false, false, false
	path := request.Path
	if end := strings.IndexAny(path, "?#"); end >= 0 {
		path = path[:end]
	}
	plain := plainPath(path)
	for i := range scopes {
		scope := &scopes[i]
		if scope.path == "" {
			named = named || (scope.name != "" && scope.name == request.RequiredScope)
			continue
		}
		paths = true
		matched = matched || (plain && scope.matches(request.Method, path))
	}
	if request.RequiredScope != "" {
		return named && (matched || !paths)
	}
	return matched
}

func (s *Scope) matches(method, path string) bool {
	if len(s.methods) > 0 && !slices.Contains(s.methods, method) {
		return false
	}
	rest, found := strings.CutPrefix(path, s.path)
	return found && (rest == "" || rest[0] == '/' || s.path[len(s.path)-1] == '/')
}

// plainPath reports whether every server reads the segments of a path without
// a query alike, so that a path which begins as permitted does not lead elsewhere. Excluded
// are dot segments, written with escapes or parameters too, doubled slashes,
// backslashes, control characters, and escapes of those and of escapes.
func plainPath(path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	segment := 1 // where the present segment begins
	for i := 1; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			if (i == segment && i < len(path)) || dotSegment(path[segment:i]) {
				return false
			}
			segment = i + 1
			continue
		}
		c := path[i]
		if c == '%' {
			if len(path) < i+3 {
				return false
			}
			decoded, err := strconv.ParseUint(path[i+1:i+3], 16, 8)
			if err != nil {
				return false
			}
			c = byte(decoded)
			if c == '/' || c == '%' || c == '.' || c == ';' {
				return false
			}
		}
		if c < ' ' || c == 0x7f || c == '\\' {
			return false
		}
	}
	return true
}

// dotSegment reports whether a segment without escapes is "." or "..", with
// parameters behind a semicolon or without.
func dotSegment(segment string) bool {
	if end := strings.IndexByte(segment, ';'); end >= 0 {
		segment = segment[:end]
	}
	return segment == "." || segment == ".."
}
