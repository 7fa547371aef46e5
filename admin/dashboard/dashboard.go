package dashboard

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

//go:embed shell.html
var shellPage string

// Policy is the Content-Security-Policy of the shell. Pico's style sheet draws
// its marks from data: images.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Options are what the pages say of their surroundings. The zero value is
// useful.
type Options struct {
	// APIURL is where the calls go that keys are for, as the snippets beside
	// a new key show it: scheme and host, perhaps a path. Empty:
	// https://api.example.com.
	APIURL string
	// Version is the program's version, shown at the foot. Empty: "dev".
	Version string
}

// Dashboard serves the pages. It is safe for concurrent use.
type Dashboard struct {
	shell []byte
	mux   *http.ServeMux
}

// routes are the addresses that the shell answers to, as patterns of
// [http.ServeMux]. Its modules show the page that belongs to each.
func routes() []string {
	return []string{
		"/{$}", "/sign-in", "/accept-invitation", "/settings", "/settings/api-keys", "/settings/api-keys/{key}", "/settings/blocked",
		"/settings/audit", "/settings/users", "/settings/account",
	}
}

// New returns the pages, or the option that is wrong.
func New(options Options) (*Dashboard, error) {
	if options.APIURL == "" {
		options.APIURL = "https://api.example.com"
	}
	target, err := url.Parse(options.APIURL)
	if err != nil || target.Host == "" || (target.Scheme != "https" && target.Scheme != "http") || target.User != nil || target.RawQuery != "" {
		return nil, errors.New("dashboard options: APIURL: expected http or https, a host and perhaps a path")
	}
	if options.Version == "" {
		options.Version = "dev"
	}
	files, err := newAssets()
	if err != nil {
		return nil, fmt.Errorf("reading the dashboard's files: %w", err)
	}
	page, err := template.New("shell").Parse(shellPage)
	if err != nil {
		return nil, fmt.Errorf("reading the dashboard's shell: %w", err)
	}
	var shell bytes.Buffer
	if err := page.Execute(&shell, map[string]any{
		"Base": files.base, "Modules": files.modules(), "APIURL": strings.TrimSuffix(options.APIURL, "/"), "Version": options.Version,
	}); err != nil {
		return nil, fmt.Errorf("writing the dashboard's shell: %w", err)
	}
	d := &Dashboard{shell: shell.Bytes(), mux: http.NewServeMux()}
	for _, route := range routes() {
		d.mux.HandleFunc("GET "+route, d.serveShell)
	}
	d.mux.HandleFunc("GET "+assetPrefix, files.serve)
	d.mux.HandleFunc("/", notFound)
	return d, nil
}

// ServeHTTP answers with the shell, or with the file that the address names,
// and with 404 to all else: it may stand behind every other route.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	d.mux.ServeHTTP(w, r)
}

func (d *Dashboard) serveShell(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", Policy)
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	header.Set("Cache-Control", "no-store")
	_, _ = w.Write(d.shell)
}

// notFound answers as the API does, since it is more often a program than a
// person that asks for what does not exist.
func notFound(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte(`{"title":"Not Found","status":404,"code":"not_found","detail":"There is no such page."}` + "\n"))
}
