package admin

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// served keeps what an observer was told.
type served []string

func (s *served) Served(route string, status int, took time.Duration) {
	if took < 0 {
		route = "took less than nothing"
	}
	*s = append(*s, fmt.Sprintf("%s %d", route, status))
}

// Requests are told by their route, of which there are only so many, and by
// their status.
func TestObserver(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /keys/{id}/{$}", func(w http.ResponseWriter, r *http.Request) {
		switch r.PathValue("id") {
		case "1":
			w.WriteHeader(http.StatusTeapot)
		case "2":
			_, _ = w.Write([]byte("fine"))
		case "3":
			panic("no")
		case "5": // the first that is no interim one counts
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusCreated)
			w.WriteHeader(http.StatusTeapot)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	var got served
	hosts := newHostGuard([]string{"keys.example.io"}, "")
	handler := guards{logger: slog.New(slog.DiscardHandler), hosts: hosts.allows, observer: &got}.protect(mux)
	for _, url := range []string{"http://keys.example.io/keys/1/", "http://keys.example.io/keys/2/", "http://keys.example.io/keys/3/", "http://keys.example.io/keys/4/", "http://keys.example.io/keys/5/", "http://keys.example.io/who/knows", "http://evil.example/keys/1/"} {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, url, nil))
	}
	want := served{"GET /keys/{id} 418", "GET /keys/{id} 200", "GET /keys/{id} 500", "GET /keys/{id} 200", "GET /keys/{id} 201", "other 404", "refused 421"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
