package admin_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/admin"
)

type description struct {
	OpenAPI    string
	Paths      map[string]map[string]describedOperation
	Components struct {
		Schemas         map[string]json.RawMessage
		SecuritySchemes map[string]any
	}
}

type describedOperation struct {
	OperationID string
	Security    []map[string][]string
	RequestBody *struct{ Required bool }
	Responses   map[string]struct {
		Description string
		Headers     map[string]any
		Content     map[string]any
	}
}

func (h *harness) describe() description {
	h.t.Helper()
	w := httptest.NewRecorder()
	h.admin.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/openapi.json", nil))
	var d description
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != 200 {
		h.t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
	}
	return d
}

var aKey = regexp.MustCompile(`/api-keys/[0-9]+(/|$)`)

// operations returns what is described of a path, in whatever form.
func (d *description) operations(path string) map[string]describedOperation {
	path, _, _ = strings.Cut(path, "?")
	path = aKey.ReplaceAllString(path, "/api-keys/{key_id}$1")
	if operations := d.Paths[strings.TrimSuffix(path, "/")+"/"]; operations != nil {
		return operations
	}
	return d.Paths[path]
}

// checkDocumented fails where an answer of a documented operation is not
// among its documented answers: status, media type and headers.
func (h *harness) checkDocumented(method, path string, w *httptest.ResponseRecorder) {
	h.t.Helper()
	operations := h.described.operations(path)
	operation, found := operations[strings.ToLower(method)]
	if !found {
		return
	}
	answer, found := operation.Responses[strconv.Itoa(w.Code)]
	if !found {
		h.t.Errorf("%s %s: %d is not documented", method, path, w.Code)
		return
	}
	if media := w.Header().Get("Content-Type"); media != "" && answer.Content[media] == nil {
		h.t.Errorf("%s %s: %d of type %s is not documented", method, path, w.Code, media)
	}
	for _, name := range []string{"Retry-After", "WWW-Authenticate", "Link", "X-Total-Count", "Set-Cookie"} {
		if w.Header().Get(name) != "" && answer.Headers[name] == nil && answer.Headers[http.CanonicalHeaderKey(name)] == nil {
			h.t.Errorf("%s %s: header %s of %d is not documented", method, path, name, w.Code)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.Version = "1.2.3" })
	d := h.describe()
	if d.OpenAPI != "3.1.0" {
		t.Errorf("openapi: %q", d.OpenAPI)
	}
	want := map[string]struct {
		method  string
		session bool
		codes   string
	}{
		loginPath:  {"post", false, "200 400 401 403 408 413 415 421 422 429 500 503 507"},
		logoutPath: {"post", true, "204 401 403 421 500 503 507"},
		createPath: {"post", true, "201 400 401 403 408 413 415 421 422 500 503 507"},
		listPath:   {"get", true, "200 401 403 404 421 422 500 503"},
		deletePath: {"post", true, "200 400 401 403 404 408 413 415 421 422 500 503 507"},
		keyPath:    {"patch", true, "200 400 401 403 404 408 413 415 421 422 500 503 507"},
		"/livez":   {"get", false, "200 421 500"},
		"/readyz":  {"get", false, "200 421 500 503"},
	}
	for path, c := range want {
		operation, found := d.Paths[path][c.method]
		if !found {
			t.Errorf("%s: documented are %v", path, d.Paths[path])
			continue
		}
		if got := strings.Join(slices.Sorted(maps.Keys(operation.Responses)), " "); got != c.codes {
			t.Errorf("%s: statuses %s, want %s", path, got, c.codes)
		}
		if (len(operation.Security) > 0) != c.session {
			t.Errorf("%s: security %v", path, operation.Security)
		}
	}
	for path, operations := range d.Paths {
		for method, operation := range operations {
			for status, answer := range operation.Responses {
				if status >= "400" && (answer.Content["application/problem+json"] == nil || !strings.Contains(answer.Description, "`")) {
					t.Errorf("%s %s: %s is no documented problem: %+v", method, path, status, answer)
				}
			}
		}
	}
	if d.Components.SecuritySchemes["session"] == nil || d.Components.Schemas["Problem"] == nil || d.Components.Schemas["ErrorModel"] != nil {
		t.Errorf("components: %v %v", d.Components.SecuritySchemes, slices.Collect(maps.Keys(d.Components.Schemas)))
	}
	text := h.do(request{method: "GET", path: "/openapi.json"}).body
	for name := range d.Components.Schemas {
		if !strings.Contains(text, `"#/components/schemas/`+name+`"`) {
			t.Errorf("schema %s is used nowhere", name)
		}
	}
	for _, part := range strings.Split(text, `"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if d.Components.Schemas[name] == nil {
			t.Errorf("schema %s is used and not there", name)
		}
	}
	if yaml := h.do(request{method: "GET", path: "/openapi.yaml"}).want(200, ""); !strings.Contains(yaml.body, "version: 1.2.3") {
		t.Errorf("the YAML form lacks the version: %.200s", yaml.body)
	}
}

// The page of the description loads nothing but its own style sheet.
func TestDocsPage(t *testing.T) {
	h := newHarness(t, nil)
	page := h.do(request{method: "GET", path: "/docs"}).want(200, "")
	if !strings.Contains(page.body, createPath) || !strings.Contains(page.body, "allowed_origins") || !strings.Contains(page.body, "storage_full") ||
		!strings.Contains(page.body, "PATCH") || !strings.Contains(page.body, "unused_30d: not used") {
		t.Error("the page lacks an operation, a field or an answer")
	}
	for _, load := range []string{"<script", "<style", "style=", "src=", "@import", "//cdn"} {
		if strings.Contains(page.body, load) {
			t.Errorf("the page has %s", load)
		}
	}
	if strings.Count(page.body, "<link") != 1 {
		t.Error("the page links other things than its style")
	}
	h.do(request{method: "GET", path: "/docs.css"}).want(200, "")
	if policy := page.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; style-src 'self';") {
		t.Errorf("policy %q", policy)
	}
}
