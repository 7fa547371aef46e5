package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// sentSpans keeps all that a collector is sent.
type sentSpans struct {
	collector.UnimplementedTraceServiceServer
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *sentSpans) Export(ctx context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	wire, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	sent, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Write(wire)
	fmt.Fprint(&s.all, sent)
	return &collector.ExportTraceServiceResponse{}, nil
}

// secrecy is a service in which everything is on that writes anything, and all
// that was ever written.
type secrecy struct {
	*server
	t       *testing.T
	canary  *canaries
	written map[string]*bytes.Buffer // by where
	spans   *sentSpans
	files   string // what else was written, as files
	kept    int    // of the answers of the admin API, before the last one
}

func startSecrecy(t *testing.T) *secrecy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &secrecy{t: t, canary: newCanaries(), written: map[string]*bytes.Buffer{}, spans: &sentSpans{}, files: t.TempDir()}
	sink := grpc.NewServer()
	collector.RegisterTraceServiceServer(sink, s.spans)
	go func() { _ = sink.Serve(listener) }()
	t.Cleanup(sink.Stop)
	s.canary.add("pepper", firstPepper)
	s.canary.add("old pepper", secondPepper)
	s.server = startServer(t, filepath.Join(t.TempDir(), "data"),
		"--log-level", "debug", "--log-denials", "0", "--decision-log", filepath.Join(s.files, "decisions.log"),
		"--otlp-endpoint", "http://"+listener.Addr().String(), "--metrics-listen", "127.0.0.1:0", "--grpc-reflection",
		"--key-pepper-file", pepperFile(t, firstPepper, secondPepper, "none"), "--key-query", "key", "--key-bearer", "--client-address", "forwarded:0",
		"--block-never", "0.0.0.0/0", "--block-never", "::/0")
	return s
}

func (s *secrecy) write(where string, text []byte) {
	if s.written[where] == nil {
		s.written[where] = &bytes.Buffer{}
	}
	s.written[where].Write(append(text, '\n'))
}

// run runs a command that may fail and keeps all that it prints.
func (s *secrecy) run(stdin string, args ...string) string {
	cmd := exec.Command(binary(s.t), append(args, "--data", s.data)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	s.write("the output of "+strings.Join(args[:2], " "), fmt.Appendf(out, "%v", err))
	return string(out)
}

// post makes a request of the admin API and returns its answer, which it keeps
// unless it is one that is made to show a secret.
func (s *secrecy) post(shown bool, method, path, body, token string, header http.Header) []byte {
	request, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.admin, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.URL.Opaque = "//" + s.admin + path // as it is
	for name, values := range header {
		request.Header[name] = values
	}
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	if request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if !shown {
		s.kept = 0
		if before := s.written["an answer of the admin API"]; before != nil {
			s.kept = before.Len()
		}
		s.write("an answer of the admin API", fmt.Appendf(answer, "%v", response.Header))
	} else if response.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %d %s", method, path, response.StatusCode, answer)
	}
	return answer
}

const (
	apiBase        = "/api/users/auth/"
	canaryPassword = "canary-Passw0rd-Vq7Zr2Lk9"
	nextPassword   = "canary-Passw0rd-Hd4Xs8Wn1"
)

// show returns a field of an answer that is made to show it, and makes it a
// canary.
func (s *secrecy) show(name, field string, answer []byte) string {
	s.t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(answer, &fields); err != nil {
		s.t.Fatalf("%v in %s", err, answer)
	}
	text, _ := fields[field].(string)
	if _, after, found := strings.Cut(text, "#"); found {
		text = after
	}
	if len(text) < 20 {
		s.t.Fatalf("no %s in %s", field, answer)
	}
	s.canary.add(name, text)
	return text
}

// No key, password, session token, invitation or pepper is written anywhere:
// everything that the real program writes is searched, while people and clients
// put their secrets in every wrong place.
func TestSecrecy(t *testing.T) {
	s := startSecrecy(t)
	s.canary.add("password", canaryPassword)
	s.canary.add("next password", nextPassword)
	s.run(canaryPassword+"\n", "user", "add", "alice")
	s.run(canaryPassword+"\n", "user", "add", "bob", "--json")
	s.run(nextPassword+"\n", "user", "passwd", "bob")
	login := fmt.Sprintf(`{"username":"alice","password":%q}`, canaryPassword)
	token := s.show("session token", "token", s.post(true, "POST", apiBase+"login/", login, "", nil))
	key := s.show("key", "key", s.post(true, "POST", apiBase+"create-api-key/", `{"name":"web","rate_limit_per_hour":1000}`, token, nil))
	rotated := s.show("rotated key", "key", s.post(true, "POST", apiBase+"api-keys/1/rotate/", `{}`, token, nil))
	invitation := s.show("invitation", "link", s.post(true, "POST", apiBase+"users/invite/", `{"name":"carol"}`, token, nil))
	secrets := []string{key, token, invitation, rotated, canaryPassword, nextPassword, firstPepper}

	s.misuseAdmin(secrets, token)
	s.misuseChecks(secrets)
	s.misuseCommands(secrets)
	if out := s.run("", "key", "list", "--json"); !strings.Contains(out, `"web"`) {
		t.Errorf("the key is not listed: %s", out)
	}
	s.post(false, "POST", apiBase+"invitations/accept/", fmt.Sprintf(`{"token":%q,"password":%q}`, invitation, nextPassword), "", nil)
	s.post(false, "POST", apiBase+"logout/", "", token, nil)
	s.collect()

	for where, text := range s.written {
		s.canary.search(t, where, text.Bytes())
	}
	if n := s.canary.searchFiles(t, s.files) + s.canary.searchFiles(t, s.data); n < 5 {
		t.Errorf("only %d files were searched", n)
	}
	for _, where := range []string{"the log", "the traces", "metrics", "the stacks of a process that was told to stop at once", "an answer to a Check", "the output of store export"} {
		if s.written[where] == nil || s.written[where].Len() < 100 {
			t.Errorf("%s is not there to be searched", where)
		}
	}
}

// misuseAdmin puts every secret where it does not belong in the admin API.
func (s *secrecy) misuseAdmin(secrets []string, token string) {
	for _, secret := range secrets {
		quoted, err := json.Marshal(secret)
		if err != nil {
			s.t.Fatal(err)
		}
		long := secret + strings.Repeat("x", 20_000)
		for _, body := range []string{
			`{"username":` + string(quoted) + `,"password":` + string(quoted) + `}`, `{"username":"alice","password":` + string(quoted) + `x`,
			`{"username":[` + string(quoted) + `],"password":{"a":` + string(quoted) + `}}`, secret, `{"username":"alice","password":"` + long + `"}`,
			`{"username":"alice\u0000","password":"` + secret + `\ud800"}`,
		} {
			s.post(false, "POST", apiBase+"login/", body, "", nil)
		}
		for _, body := range []string{
			`{"name":` + string(quoted), `{"name":[` + string(quoted) + `]}`, `{"name":"x","rate_limit_per_hour":` + string(quoted) + `}`,
			`{"name":"x","allowed_origins":[` + string(quoted) + `,"https://` + secret + `@a.example/"]}`, `{"name":"x","allowed_ips":[` + string(quoted) + `]}`,
			`{"name":"` + long + `"}`, `{"name":"x","expires_at":` + string(quoted) + `}`, `{"name":"x","scopes":[` + string(quoted) + `],"metadata":{"a":` + string(quoted) + `1}}`,
		} {
			s.post(false, "POST", apiBase+"create-api-key/", body, token, nil)
			s.post(false, "PATCH", apiBase+"api-keys/1/", body, token, nil)
		}
		// An answer names the field that is wrong to who sent it, and to nobody else.
		for _, body := range []string{`{` + string(quoted) + `:1}`, `{"name":"x","metadata":{` + string(quoted) + `:1}}`} {
			s.post(false, "POST", apiBase+"create-api-key/", body, token, nil)
			s.written["an answer of the admin API"].Truncate(s.kept)
		}
		for _, path := range []string{
			"/" + secret, apiBase + "api-keys/" + secret + "/", apiBase + "api-keys/?search=" + secret, apiBase + "api-keys/?cursor=" + secret, apiBase + "audit/?action=" + secret,
			"/%2e%2e/" + secret + "%00", apiBase + "login/?password=" + secret,
		} {
			s.post(false, "GET", path, "", token, nil)
		}
		for name, value := range map[string]string{
			"Host": secret + ".example", "User-Agent": secret, "Referer": "https://a.example/?key=" + secret, "Origin": "https://" + secret, "X-Forwarded-For": secret,
			"Cookie": "session=" + secret + "; __Host-session=" + secret, "Content-Type": "application/" + secret, "Api-Key": secret, "Authorization": "Basic " + secret,
			"Traceparent": "00-" + secret, "X-Request-Id": secret, "Content-Encoding": secret, "If-None-Match": secret,
		} {
			s.post(false, "GET", apiBase+"me/", "", "", http.Header{name: {value}})
			s.post(false, "POST", apiBase+"login/", `{"username":"alice","password":"wrong wrong wrong"}`, "", http.Header{name: {value}})
		}
	}
}

// misuseChecks puts every secret into every part of a Check.
func (s *secrecy) misuseChecks(secrets []string) {
	checks := newGRPCClient(s.t, s.server)
	check := func(change func(http *authv3.AttributeContext_HttpRequest, attributes *authv3.AttributeContext)) {
		request := (&checkRequest{header: "api-key", from: "x-client-ip", address: "192.0.2.1", method: "GET", path: "/things"}).message("")
		request.Attributes.ContextExtensions = nil
		change(request.GetAttributes().GetRequest().GetHttp(), request.GetAttributes())
		ctx := metadata.AppendToOutgoingContext(s.t.Context(), "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-canary", secrets[0])
		response, err := checks.Check(ctx, request)
		s.write("an answer to a Check", fmt.Appendf(nil, "%v %v", response, err))
	}
	type attributes = authv3.AttributeContext
	type request = authv3.AttributeContext_HttpRequest
	for _, secret := range secrets {
		for _, value := range []string{secret, secret + ",x", secret + "," + secret, " " + secret, secret[:len(secret)-1], secret + strings.Repeat("y", 5000), strings.ToUpper(secret)} {
			for _, name := range []string{"api-key", "authorization", "origin", "x-origin", "x-forwarded-for", "user-agent", "referer", "cookie", "content-type", ":authority", "host"} {
				check(func(http *request, _ *attributes) { http.Headers[name] = value })
			}
			check(func(http *request, _ *attributes) { http.Headers["authorization"] = "Bearer " + value })
			check(func(http *request, _ *attributes) { http.Path = "/things?key=" + value })
			check(func(http *request, _ *attributes) { http.Path = "/things?a=" + value + "&key=x#" + value })
			check(func(http *request, a *attributes) {
				a.Source.Address.GetSocketAddress().Address = value
				http.Headers = nil
			})
			check(func(_ *request, a *attributes) {
				a.ContextExtensions = map[string]string{"scope": value, value: "x", "cost": value, "explain": value}
			})
			check(func(http *request, _ *attributes) {
				http.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "api-key", RawValue: []byte(value)}, {Key: "api-key", RawValue: []byte(value)}, {Key: value, RawValue: []byte("\xff" + value)}}}
			})
		}
	}
	for _, secret := range secrets[:4] { // what has a form of its own is known by it wherever it stands
		check(func(http *request, _ *attributes) { http.Path = "/things/" + secret + "/more" })
		check(func(http *request, _ *attributes) { http.Host = secret + strings.Repeat("y", 5000) })
		check(func(http *request, _ *attributes) { http.Headers["x-request-id"] = secret + "," + secret })
		check(func(http *request, _ *attributes) { http.Host = "a." + secret + ".example:443" })
		check(func(http *request, _ *attributes) { http.Method = secret })
	}
}

// misuseCommands puts every secret into settings and arguments whose errors
// are printed. What a command is given in its arguments is the caller's to
// keep; here only that it is not kept anywhere else counts.
func (s *secrecy) misuseCommands(secrets []string) {
	for _, secret := range []string{secrets[0], secrets[4]} {
		s.run(secret+"\n", "key", "verify", "--json")
		s.run(secret+"x\n", "key", "verify")
		s.run(secret+"\n", "check", "--server="+s.grpc)
		s.run(secret+" "+secret+"\n", "check", "--server="+s.grpc, "--json")
		s.run(secret[:7]+"\n", "user", "add", "dave")
		s.run(secret+strings.Repeat("z", 5000)+"\n", "user", "add", "dave")
	}
	for _, args := range [][]string{
		{"audit", "list", "--json"}, {"store", "export"}, {"store", "backup", filepath.Join(s.files, "backup.db")}, {"key", "show", "1", "--json"},
		{"key", "usage", "1", "--json"}, {"user", "list", "--json"}, {"user", "invitations", "--json"}, {"block", "list", "--json"}, {"config", "show"},
	} {
		s.run("", args...)
	}
}

// collect takes what the service has written and what is known of its process,
// and ends it by a signal that prints all stacks.
func (s *secrecy) collect() {
	s.write("metrics", []byte(scrape(s.t, s.server)))
	for _, path := range []string{"/debug/pprof/heap", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline", "/debug/vars"} {
		for _, address := range []string{s.metrics, s.admin} {
			response, err := http.Get("http://" + address + path)
			if err != nil {
				s.t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || response.Body.Close() != nil {
				s.t.Fatal(err)
			}
			if response.StatusCode == http.StatusOK {
				s.t.Errorf("%s is served on %s", path, address)
			}
			s.write("what is served of profiles", body)
		}
	}
	for _, name := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.cmd.Process.Pid, name))
		if err != nil {
			s.t.Fatal(err)
		}
		s.write("the "+name+" of the process", text)
	}
	s.stop(s.t) // writes all that waits
	s.write("the log", []byte(s.logs.String()))
	s.write("standard output", s.out.Bytes())
	s.spans.mu.Lock()
	s.write("the traces", s.spans.all.Bytes())
	s.spans.mu.Unlock()

	again := prepareServer(s.t, s.data, "--key-pepper-file", pepperFile(s.t, firstPepper, secondPepper, "none"))
	again.start(s.t)
	s.keepBusy(again)
	if err := again.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-again.exited:
		if err == nil {
			s.t.Error("SIGQUIT ended the service well")
		}
	case <-time.After(30 * time.Second):
		s.t.Fatal("SIGQUIT does not end the service")
	}
	again.cmd = nil
	s.write("the stacks of a process that was told to stop at once", []byte(again.logs.String()))
}

// keepBusy leaves a request half sent, so that stacks have it.
func (s *secrecy) keepBusy(again *server) {
	conn, err := net.Dial("tcp", again.admin)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "POST %slogin/ HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"password\":\"%s", apiBase, again.admin, canaryPassword); err != nil {
		s.t.Fatal(err)
	}
	response, err := http.Get("http://" + again.admin + "/livez")
	if err != nil || response.Body.Close() != nil {
		s.t.Fatal(err)
	}
}
