package standin

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// normalize returns the path and query as Envoy's normalize_path and
// merge_slashes leave them, and reports whether they are allowed: escaped
// slashes, NULs, fragments and bytes beyond ASCII are not.
func normalize(target string) (string, bool) {
	path, query, hasQuery := strings.Cut(target, "?")
	lower := strings.ToLower(path)
	if strings.Contains(target, "#") || strings.ContainsFunc(target, func(r rune) bool { return r > 126 }) ||
		strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") || strings.Contains(lower, "%00") {
		return "", false
	}
	segments := strings.Split(strings.ReplaceAll(path, `\`, "/"), "/")[1:]
	var kept []string
	directory := false // the path ends in a slash
	for _, segment := range segments {
		// Dots may be escaped, or have parameters, but not both.
		name, _, hasParameters := strings.Cut(segment, ";")
		segment = respell(segment)
		if !hasParameters {
			name = segment
		}
		directory = true
		switch name {
		case ".":
		case "..":
			if len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
		default:
			kept = append(kept, segment)
			directory = segment == ""
		}
	}
	kept = slices.DeleteFunc(kept, func(s string) bool { return s == "" })
	path = "/" + strings.Join(kept, "/")
	if directory && path != "/" {
		path += "/"
	}
	if hasQuery {
		path += "?" + query
	}
	return path, true
}

// respell unescapes the characters of a path segment that need no escape and
// escapes those that do.
func respell(segment string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if c == '%' && i+2 < len(segment) {
			if n, err := strconv.ParseUint(segment[i+1:i+3], 16, 8); err == nil && unreserved(byte(n)) {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		if strings.IndexByte("\"<>^`{|}", c) >= 0 {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unreserved reports whether c means the same escaped or not (RFC 3986, 2.3).
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// changeQuery sets and removes the query parameters that a decision names and
// leaves all others as they were written.
func changeQuery(target string, ok *authv3.OkHttpResponse) string {
	if len(ok.GetQueryParametersToRemove()) == 0 && len(ok.GetQueryParametersToSet()) == 0 {
		return target
	}
	path, query, _ := strings.Cut(target, "?")
	removed := func(name string) bool {
		for _, set := range ok.GetQueryParametersToSet() {
			if set.GetKey() == name {
				return true
			}
		}
		return slices.Contains(ok.GetQueryParametersToRemove(), name)
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(pair, "="); pair != "" && !removed(name) {
			kept = append(kept, pair)
		}
	}
	for _, set := range ok.GetQueryParametersToSet() {
		kept = append(kept, url.QueryEscape(set.GetKey())+"="+url.QueryEscape(set.GetValue()))
	}
	if len(kept) == 0 {
		return path
	}
	return path + "?" + strings.Join(kept, "&")
}
