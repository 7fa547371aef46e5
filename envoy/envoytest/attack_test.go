package envoytest_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// frame is a message as gRPC sends it.
func frame(message string) string {
	return string([]byte{0, 0, 0, byte(len(message) >> 8), byte(len(message))}) + message
}

// answerer is an authorization service that is healthy and answers Checks with
// whatever it is told to.
func answerer(t *testing.T, check http.HandlerFunc) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Protocols: &http.Protocols{}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
			w.Header().Set("Content-Type", "application/grpc")
			_, _ = io.WriteString(w, frame("\x08\x01")) // serving
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			return
		}
		check(w, r)
	})}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// Whatever is in the place of an authorization service, nothing passes but what
// it allows.
func TestAttackBrokenService(t *testing.T) {
	envoytest.Require(t)
	// An answer that allows: a status of code 0 and an OkHttpResponse.
	const allows = "\x0a\x00\x1a\x00"
	grpc := func(body string, trailers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			_, _ = io.WriteString(w, body)
			for i := 0; i < len(trailers); i += 2 {
				w.Header().Set(http.TrailerPrefix+trailers[i], trailers[i+1])
			}
		}
	}
	for _, c := range []struct {
		name  string
		check http.HandlerFunc
		want  int
	}{
		{"one that allows", grpc(frame(allows), "Grpc-Status", "0"), 200},
		{"one that never answers", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 503},
		{"one that stops half way", func(w http.ResponseWriter, r *http.Request) {
			grpc(frame(allows)[:7])(w, r)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, 503},
		{"one that breaks off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 503},
		{"garbage", grpc("\xff\xfe garbage that is no frame", "Grpc-Status", "0"), 503},
		{"a frame of garbage", grpc(frame("\xff\xff\xff\xff\xff"), "Grpc-Status", "0"), 503},
		{"no message", grpc("", "Grpc-Status", "0"), 503},
		{"an error after an answer that allows", grpc(frame(allows), "Grpc-Status", "13"), 503},
		{"an internal error", grpc("", "Grpc-Status", "13", "Grpc-Message", "x"), 503},
		{"permission denied, of the call", grpc("", "Grpc-Status", "7"), 503},
		{"a web page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>OK</html>") }, 503},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, 503},
		{"not found", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			upstream := echo.Start(t)
			front := envoytest.Start(t, envoy.Options{Authz: []string{answerer(t, c.check)}, Upstream: upstream.Address()})
			response, err := http.Get(front.URL + "/api/tokens/")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close() //nolint:errcheck // only read
			arrived := 0
			if c.want == http.StatusOK {
				arrived = 1
			}
			if response.StatusCode != c.want || upstream.Count() != arrived {
				t.Errorf("status %d and %d requests upstream, want %d and %d", response.StatusCode, upstream.Count(), c.want, arrived)
			}
		})
	}
}
