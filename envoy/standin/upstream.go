package standin

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
)

// upstream passes requests on to one host:port.
type upstream struct {
	proxy *httputil.ReverseProxy
}

// hopByHop are the headers that concern one connection only, in Go's spelling.
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// passageKey finds the passage of a request in its context.
type passageKey struct{}

func newUpstream(address string, transport http.RoundTripper) *upstream {
	return &upstream{proxy: &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // as it comes
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		Rewrite: func(r *httputil.ProxyRequest) {
			p, _ := r.In.Context().Value(passageKey{}).(*passage)
			path, query, hasQuery := strings.Cut(p.path, "?")
			// Opaque is sent as it is.
			r.Out.URL = &url.URL{Scheme: "http", Host: address, Opaque: path, RawQuery: query, ForceQuery: hasQuery && query == ""}
			r.Out.Host = r.In.Host
			// The proxy has removed what the client named in its Connection
			// header, and x-forwarded headers; Envoy keeps them.
			for name, values := range r.In.Header {
				if !slices.Contains(hopByHop, name) {
					r.Out.Header[name] = values
				}
			}
			// Last, so that no client can undo it.
			apply(r.Out.Header, p.outgoing)
		},
		ModifyResponse: func(response *http.Response) error {
			if p, ok := response.Request.Context().Value(passageKey{}).(*passage); ok {
				apply(response.Header, p.answer)
			}
			response.Header.Set("Server", serverName)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, _ error) {
			if p, ok := r.Context().Value(passageKey{}).(*passage); ok {
				apply(w.Header(), p.answer)
			}
			refuse(w, http.StatusServiceUnavailable, "upstream connect error or disconnect/reset before headers")
		},
	}}
}

func (u *upstream) pass(w http.ResponseWriter, p *passage) {
	w.Header().Del("Server") // or it would stand there twice
	u.proxy.ServeHTTP(w, p.WithContext(context.WithValue(p.Context(), passageKey{}, p)))
}
