package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"
)

// contentPolicy forbids an answer of the API to load, run or be framed by
// anything.
const contentPolicy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

type contextKey int

const (
	callerKey contextKey = iota
	clientKey
)

// client is what a request says of where it comes from.
type client struct {
	address   netip.Addr // invalid where it is not known
	userAgent string
	host      string // that the client asked for
}

// clientFrom returns the client that [protect] found.
func clientFrom(ctx context.Context) client {
	c, _ := ctx.Value(clientKey).(client)
	return c
}

// guards are what stands before every request of one API.
type guards struct {
	logger        *slog.Logger
	addressHeader string
	hosts         func(host string) bool // nil: any
	observer      Observer               // nil: nobody
}

// protect wraps handler in all that does not depend on the route: headers that
// disarm browsers, the host list, the refusal of requests by foreign pages, the
// client's address, and an answer in place of a panic.
func (g guards) protect(handler http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, newProblem(CodeCrossOrigin))
	}))
	handler = crossOrigin.Handler(handler)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Content-Security-Policy", contentPolicy)
		header.Set("Cache-Control", "no-store")
		tracked := &trackedWriter{ResponseWriter: w}
		w = tracked
		from := client{clientAddress(r, g.addressHeader), r.UserAgent(), r.Host}
		// What routes say of a request they say of this copy.
		r = r.WithContext(context.WithValue(r.Context(), clientKey, from))
		defer g.observe(tracked, r, time.Now())
		defer g.recover(tracked, r)
		if g.hosts != nil && !healthPath(r.URL.Path) && !g.hosts(r.Host) {
			writeProblem(w, newProblem(CodeMisdirected))
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// healthPath reports whether a path says nothing but that we are up, so that
// probes may ask for it by any address.
func healthPath(path string) bool { return path == "/livez" || path == "/readyz" }

// trackedWriter knows whether an answer has begun, and its status.
type trackedWriter struct {
	http.ResponseWriter
	begun  bool
	status int // 0 until it is said
}

func (w *trackedWriter) WriteHeader(status int) {
	w.begun = true
	if w.status < http.StatusOK { // those below are not the last
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *trackedWriter) Write(p []byte) (int, error) {
	w.begun = true
	if w.status < http.StatusOK {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap returns the writer beneath, for [http.ResponseController].
func (w *trackedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recover answers 500 where the handler panicked, or breaks off an answer that
// had begun. The panic's value is not logged, since it may hold what the
// request held.
func (g guards) recover(w *trackedWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	if r.Context().Err() == nil {
		g.logger.ErrorContext(r.Context(), "request failed unexpectedly", "route", r.Pattern, "stack", string(debug.Stack()))
	}
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	writeProblem(w, newProblem(CodeInternal))
}

func writeProblem(w http.ResponseWriter, problem *Problem) {
	header := w.Header()
	for name, values := range problem.GetHeaders() {
		header[name] = values
	}
	header.Set("Content-Type", problemType)
	w.WriteHeader(problem.Status)
	_ = json.NewEncoder(w).Encode(problem)
}
