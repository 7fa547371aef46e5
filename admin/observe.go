package admin

import (
	"net/http"
	"strings"
	"time"
)

// Observer hears of each request when it has been answered. Implementations
// must be safe for concurrent use.
type Observer interface {
	// Served hears of a request's route, such as "GET /api/keys/{id}", of the
	// status that it was answered with and of how long that took. A route is
	// one of those that the API has: "other" stands for all that have none,
	// "refused" for requests that were refused before a route was looked for.
	Served(route string, status int, took time.Duration)
}

// observe tells the observer of a request, which has been to the routes.
func (g guards) observe(w *trackedWriter, r *http.Request, start time.Time) {
	if g.observer != nil {
		g.observer.Served(routeOf(r.Pattern), w.answered(), time.Since(start))
	}
}

func routeOf(pattern string) string {
	switch pattern {
	case "":
		return "refused"
	case "/":
		return "other"
	}
	return strings.TrimSuffix(pattern, "/{$}")
}

// answered returns the status of the answer.
func (w *trackedWriter) answered() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}
