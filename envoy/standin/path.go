package standin

import (
	"net/url"
	"slices"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// normalize returns the path and query as Envoy's normalize_path and
// merge_slashes leave them, and reports whether they are allowed: a fragment
// is not, nor are escaped slashes.
func normalize(target string) (string, bool) {
	path, query, hasQuery := strings.Cut(target, "?")
	lower := strings.ToLower(path)
	if strings.Contains(target, "#") || strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") {
		return "", false
	}
	var kept []string
	segments := strings.Split(strings.ReplaceAll(path, `\`, "/"), "/")[1:]
	for i, segment := range segments {
		last := i == len(segments)-1
		switch dots := strings.ReplaceAll(strings.ToLower(segment), "%2e", "."); dots {
		case ".", "..":
			if dots == ".." && len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, segment)
		}
	}
	last := len(kept) - 1
	path = "/" + strings.Join(slices.DeleteFunc(kept[:last:last], func(s string) bool { return s == "" }), "/")
	if path != "/" {
		path += "/"
	}
	path += kept[last]
	if hasQuery {
		path += "?" + query
	}
	return path, true
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
