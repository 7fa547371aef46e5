package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// adapter routes huma's operations by [http.ServeMux], each with and without
// the last slash, and answers in problems where no route or method fits.
type adapter struct {
	mux     *http.ServeMux
	methods map[string][]string // by pattern without a method
	// pages answers to what has no route, and may be nil.
	pages   http.Handler
	timeout time.Duration // of what is behind a request
}

func (a *adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	a.route(op.Method, op.Path, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), a.timeout)
		defer cancel()
		handler(humago.NewContext(op, r.WithContext(ctx), w))
	})
}

// route adds a handler for both forms of a path.
func (a *adapter) route(method, path string, handler http.HandlerFunc) {
	bare := strings.TrimSuffix(path, "/")
	for _, pattern := range []string{bare, bare + "/{$}"} {
		a.mux.HandleFunc(method+" "+pattern, handler)
		a.methods[pattern] = append(a.methods[pattern], method)
	}
}

func (a *adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// finish adds the answers to what has no route. A path of which a part may be
// anything must not take the methods that a path with a fixed part in that
// place lacks.
func (a *adapter) finish() {
	var all []string
	for _, methods := range a.methods {
		all = append(all, methods...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for pattern, methods := range a.methods {
		for _, method := range all {
			if !slices.Contains(methods, method) {
				a.mux.HandleFunc(method+" "+pattern, a.refuseMethod(methods))
			}
		}
	}
	a.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		for _, method := range all {
			asked := &http.Request{Method: method, Host: r.Host, URL: r.URL}
			if _, pattern := a.mux.Handler(asked); pattern != "" && pattern != "/" {
				_, pattern, _ = strings.Cut(pattern, " ")
				a.refuseMethod(a.methods[pattern])(w, r)
				return
			}
		}
		if a.pages != nil && !strings.HasPrefix(r.URL.Path, "/api/") {
			a.pages.ServeHTTP(w, r)
			return
		}
		writeProblem(w, newProblem(CodeNotFound))
	})
}

func (a *adapter) refuseMethod(methods []string) http.HandlerFunc {
	methods = slices.Clone(methods)
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
	}
	slices.Sort(methods)
	allow := strings.Join(methods, ", ")
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", allow)
		writeProblem(w, newProblem(CodeMethodNotAllowed))
	}
}
