package standin

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/tokenkithq/authz/envoy"
)

// handler passes a request through the same stations as the rendered
// configuration does.
type handler struct {
	options  envoy.Options
	authz    authv3.AuthorizationClient
	admin    *upstream
	upstream *upstream
}

// passage is a request on its way.
type passage struct {
	*http.Request
	path   string // with its query, normalized
	client netip.Addr
	// outgoing changes the headers of the request that is sent upstream.
	outgoing []mutation
	// answer changes the headers of the answer.
	answer []mutation
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", serverName)
	p := &passage{Request: r}
	if status := unacceptable(r); status != 0 {
		refuse(w, status, "")
		return
	}
	path, ok := normalize(targetPath(r))
	if !ok {
		refuse(w, http.StatusBadRequest, "")
		return
	}
	p.path = path
	h.trust(p)
	if strings.HasPrefix(p.path, envoy.AdminPrefix) {
		h.admin.pass(w, p)
		return
	}
	if h.cors(w, p) || !h.authorize(w, p) {
		return
	}
	h.upstream.pass(w, p)
}

// refuse answers as Envoy's own replies do.
func refuse(w http.ResponseWriter, status int, text string) {
	if text != "" {
		w.Header().Set("Content-Type", "text/plain")
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client may be gone
}

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	http.MethodConnect, http.MethodOptions, http.MethodTrace,
}

// unacceptable returns the status for a request that Envoy refuses before it
// looks at its path, or 0. It removes the headers that are for one connection
// only.
func unacceptable(r *http.Request) int {
	for name := range r.Header {
		if strings.Contains(name, "_") {
			return http.StatusBadRequest
		}
	}
	for _, list := range r.Header.Values("Connection") {
		for name := range strings.SplitSeq(list, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			switch {
			case name == "Host" || strings.HasPrefix(name, "X-Forwarded-"):
				return http.StatusBadRequest
			case !slices.Contains(hopByHop, name):
				r.Header.Del(name)
			}
		}
	}
	upgrade := strings.ToLower(r.Header.Get("Upgrade"))
	switch {
	case !slices.Contains(methods, r.Method) || strings.ContainsAny(r.Host, ", "):
		return http.StatusBadRequest
	case !r.ProtoAtLeast(1, 1):
		return http.StatusUpgradeRequired
	case r.Method == http.MethodConnect, targetPath(r) == "":
		return http.StatusNotFound // there is no route
	case upgrade != "" && upgrade != "websocket" && upgrade != "h2c":
		return http.StatusForbidden
	}
	return 0
}

// targetPath returns the path and query that a request names, or "" where it
// names no path.
func targetPath(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		return r.RequestURI
	}
	_, rest, _ := strings.Cut(r.RequestURI, "://")
	path := strings.IndexAny(rest, "/?")
	if path < 0 || rest[path] == '?' {
		return ""
	}
	return rest[path:]
}

// trust replaces what a client says of itself by what is known.
func (h *handler) trust(p *passage) {
	peer := peerOf(p.Request)
	p.client = trustedClient(p.Header.Values("X-Forwarded-For"), peer, h.options.TrustedHops)
	for name := range p.Header {
		if strings.HasPrefix(name, "X-Envoy-") {
			p.Header.Del(name)
		}
	}
	p.Header.Set("X-Forwarded-For", strings.Join(append(p.Header.Values("X-Forwarded-For"), peer.String()), ","))
	p.Header.Set("X-Envoy-External-Address", p.client.String())
	p.Header.Set("X-Request-Id", rand.Text())
	if h.options.TrustedHops == 0 || p.Header.Get("X-Forwarded-Proto") == "" {
		p.Header.Set("X-Forwarded-Proto", "http")
	}
	p.Header.Set(h.options.ClientAddressHeader, p.client.String())
	for _, name := range h.options.Identity.Names() {
		p.Header.Del(name)
	}
}

func peerOf(r *http.Request) netip.Addr {
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return address.Addr().Unmap()
}

// trustedClient returns the address that the outermost of the trusted proxies
// appended, or the peer's where there are too few.
func trustedClient(forwarded []string, peer netip.Addr, hops int) netip.Addr {
	if hops == 0 {
		return peer
	}
	entries := strings.Split(strings.Join(forwarded, ","), ",")
	if len(entries) < hops {
		return peer
	}
	client, err := netip.ParseAddr(strings.TrimSpace(entries[len(entries)-hops]))
	if err != nil {
		return peer
	}
	return client
}

// cors answers a preflight and reports whether it did. To the answer of any
// other request from an allowed origin it adds what lets pages read it.
func (h *handler) cors(w http.ResponseWriter, p *passage) bool {
	origin := strings.Join(p.Header.Values("Origin"), ",")
	if origin == "" || len(h.options.Origins) > 0 && !slices.Contains(h.options.Origins, origin) {
		return false
	}
	if p.Method == http.MethodOptions && p.Header.Get("Access-Control-Request-Method") != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Methods", envoy.CORSMethods)
		w.Header().Set("Access-Control-Allow-Headers", strings.Join(envoy.CORSRequestHeaders(h.options), ", "))
		w.Header().Set("Access-Control-Max-Age", envoy.CORSMaxAge)
		w.WriteHeader(http.StatusOK)
		return true
	}
	p.answer = append(p.answer,
		mutation{name: "access-control-allow-origin", value: origin},
		mutation{name: "access-control-expose-headers", value: envoy.CORSExposed})
	return false
}

// authorize asks for a decision and reports whether the request may pass; if
// not, it has answered.
func (h *handler) authorize(w http.ResponseWriter, p *passage) bool {
	ctx, cancel := context.WithTimeout(p.Context(), h.options.AuthzTimeout)
	defer cancel()
	decision, err := h.authz.Check(ctx, h.checkRequest(p))
	if err != nil {
		apply(w.Header(), p.answer)
		refuse(w, http.StatusServiceUnavailable, "")
		return false
	}
	if decision.GetStatus().GetCode() != 0 {
		h.deny(w, p, decision.GetDeniedResponse())
		return false
	}
	ok := decision.GetOkResponse()
	p.outgoing = append(p.outgoing, mutationsOf(ok.GetHeaders())...)
	for _, name := range ok.GetHeadersToRemove() {
		p.outgoing = append(p.outgoing, mutation{name: name, action: remove})
	}
	p.answer = append(p.answer, mutationsOf(ok.GetResponseHeadersToAdd())...)
	p.path = changeQuery(p.path, ok)
	return true
}

func (h *handler) deny(w http.ResponseWriter, p *passage, denied *authv3.DeniedHttpResponse) {
	apply(w.Header(), mutationsOf(denied.GetHeaders()))
	apply(w.Header(), p.answer)
	status := int(denied.GetStatus().GetCode())
	if status < 200 || status > 599 {
		status = http.StatusForbidden
	}
	if w.Header().Get("Content-Type") == "" && denied.GetBody() != "" {
		w.Header().Set("Content-Type", "text/plain")
	}
	w.WriteHeader(status)
	if p.Method != http.MethodHead {
		_, _ = w.Write([]byte(denied.GetBody())) // the client may be gone
	}
}

// localAddress returns the address that the client connected to.
func localAddress(r *http.Request) net.Addr {
	address, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return address
}
