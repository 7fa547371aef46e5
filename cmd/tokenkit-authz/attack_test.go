package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
	"github.com/tokenkithq/authz/internal/tlsfiles/tlsfilestest"
)

// refused runs a command that must fail soon and returns what it says.
func refused(t *testing.T, args ...string) string {
	t.Helper()
	program := binary(t) // may take a while
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err == nil || ctx.Err() != nil {
		t.Errorf("%s was not refused: %v", strings.Join(args, " "), err)
	}
	return errs.String()
}

// The admin API is not served in plain text where others can listen.
func TestAttackPlainAdmin(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0", ":0"} {
		t.Run(address, func(t *testing.T) {
			said := refused(t, "serve", "--data", filepath.Join(t.TempDir(), "data"), "--grpc-listen", "127.0.0.1:0", "--admin-listen", address)
			if !strings.Contains(said, "admin_listen") || !strings.Contains(said, "expected a loopback address") {
				t.Errorf("said %s", said)
			}
		})
	}
	t.Run("by a name", func(t *testing.T) {
		name, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		addresses, err := net.DefaultResolver.LookupNetIP(t.Context(), "ip", name)
		if err != nil || len(addresses) == 0 || addresses[0].IsLoopback() {
			name = "0.0.0.0" // this machine's name is for itself only
		}
		refused(t, "serve", "--data", filepath.Join(t.TempDir(), "data"), "--grpc-listen", "127.0.0.1:0", "--admin-listen", name+":0")
	})
}

// A data folder that others could read or write is not used, nor one that is
// not where it seems to be.
func TestAttackDataFolder(t *testing.T) {
	serve := func(data string) []string {
		return []string{"serve", "--data", data, "--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}
	}
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, data string) string
		says    string
	}{
		{"a folder that others may read", func(t *testing.T, data string) string { chmod(t, data, 0o755); return data }, "chmod go-rwx"},
		{"a folder that its group may write", func(t *testing.T, data string) string { chmod(t, data, 0o770); return data }, "chmod go-rwx"},
		{"a file that others may read", func(t *testing.T, data string) string { chmod(t, filepath.Join(data, "keys.db"), 0o604); return data }, "keys.db"},
		{"a file that its group may write", func(t *testing.T, data string) string { chmod(t, filepath.Join(data, "keys.db"), 0o620); return data }, "keys.db"},
		{"a link in the place of a file", func(t *testing.T, data string) string {
			file := filepath.Join(data, "keys.db")
			move(t, file, filepath.Join(filepath.Dir(data), "elsewhere.db"))
			link(t, filepath.Join(filepath.Dir(data), "elsewhere.db"), file)
			return data
		}, "symbolic link"},
		{"another's link to a folder", func(t *testing.T, data string) string {
			path := data + "-link"
			link(t, data, path)
			if err := os.Lchown(path, 65534, 65534); err != nil {
				t.Skipf("only the administrator can give a link away: %v", err)
			}
			return path
		}, "symbolic link"},
		{"a file in the place of the socket", func(t *testing.T, data string) string {
			if err := os.WriteFile(filepath.Join(data, "control.sock"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return data
		}, "is no socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			command(t, testPassword+"\n", "user", "add", testUser, "--data", data)
			if said := refused(t, serve(c.prepare(t, data))...); !strings.Contains(said, c.says) {
				t.Errorf("said %s", said)
			}
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// What the service makes is its owner's only, whatever the umask.
func TestAttackFilesOfTheService(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, data)
	command(t, testPassword+"\n", "user", "add", testUser, "--data", data)
	files := 0
	err := filepath.Walk(s.data, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		files++
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has the mode %o", path, mode)
		}
		return nil
	})
	if err != nil || files < 4 {
		t.Errorf("%d files, %v", files, err)
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	command(t, "", "store", "backup", copied, "--data", data)
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v, %v", info.Mode(), err)
	}
}

// tlsServer is a service with certificates on both ports and without client
// authorities.
func tlsServer(t *testing.T, args ...string) (*server, *tls.Config) {
	t.Helper()
	folder := newTLSFolder(t)
	ca := tlsfilestest.NewAuthority(t)
	folder.publish(t, ca, "spiffe://cluster.local/ns/tokenkit/sa/authz", ca.PEM)
	return startServer(t, filepath.Join(t.TempDir(), "data"), append([]string{
		"--grpc-tls-cert", folder.cert, "--grpc-tls-key", folder.key, "--admin-tls-cert", folder.cert, "--admin-tls-key", folder.key,
	}, args...)...), folder.client(t)
}

func checkBy(t *testing.T, address string, how credentials.TransportCredentials, options ...grpc.CallOption) error {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(how))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = authv3.NewAuthorizationClient(conn).Check(ctx, &authv3.CheckRequest{}, options...)
	return err
}

// Nothing is said in plain text on a port for TLS, and a port for plain text
// does not pass for one of TLS.
func TestAttackTransportConfusion(t *testing.T) {
	secure, config := tlsServer(t)
	plain := startServer(t, filepath.Join(t.TempDir(), "data"))
	if err := checkBy(t, secure.grpc, credentials.NewTLS(config)); err != nil {
		t.Fatalf("TLS to the port for TLS: %v", err)
	}
	if err := checkBy(t, secure.grpc, insecure.NewCredentials()); status.Code(err) != codes.Unavailable {
		t.Errorf("plain gRPC to the port for TLS: %v", err)
	}
	if err := checkBy(t, plain.grpc, credentials.NewTLS(config)); status.Code(err) != codes.Unavailable {
		t.Errorf("TLS to the plain port: %v", err)
	}
	if response, err := http.Get("http://" + secure.admin + "/openapi.json"); err == nil {
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP to the port for TLS: %s", response.Status)
		}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	if response, err := client.Get("https://" + plain.admin + "/livez"); err == nil {
		_ = response.Body.Close()
		t.Errorf("TLS to the plain admin port: %s", response.Status)
	}
}

// A Check is at most 256 KiB, and its metadata 16 KiB.
func TestAttackOversizeCheck(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	client := authv3.NewAuthorizationClient(conn)
	of := func(size int) *authv3.CheckRequest {
		return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
			Http: &authv3.AttributeContext_HttpRequest{Path: "/" + strings.Repeat("a", size)},
		}}}
	}
	if _, err := client.Check(t.Context(), of(200<<10)); err != nil {
		t.Errorf("200 KiB: %v", err)
	}
	if _, err := client.Check(t.Context(), of(256<<10)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("256 KiB and more: %v", err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-long", strings.Repeat("a", 20<<10))
	if _, err := client.Check(ctx, of(1)); err == nil {
		t.Error("20 KiB of metadata were accepted")
	}
	if _, err := client.Check(t.Context(), of(1)); err != nil {
		t.Errorf("then a small one: %v", err)
	}
}

// What helps only who looks for a way in is not there.
func TestAttackDebugging(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--metrics-listen", "127.0.0.1:0")
	for _, port := range []string{s.admin, s.metrics} {
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/operator/v1/users", "/operator/v1/store/backup", "/.env", "/.git/config"} {
			response, err := http.Get("http://" + port + path)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusNotFound {
				t.Errorf("%s on %s: %s", path, port, response.Status)
			}
		}
	}
}

// An Envoy whose certificate is by the right authority but for another name is
// refused, and it refuses all that it would have asked about.
func TestAttackWrongClientName(t *testing.T) {
	envoytest.Require(t)
	ca, foreign := tlsfilestest.NewAuthority(t), tlsfilestest.NewAuthority(t)
	for _, c := range []struct {
		name     string
		by       *tlsfilestest.Authority
		identity string
		want     int
	}{
		{"the right one", ca, gatewayID, http.StatusOK},
		{"another of the same authority", ca, "spiffe://cluster.local/ns/edge/sa/other", http.StatusServiceUnavailable},
		{"one that begins alike", ca, gatewayID + "/x", http.StatusServiceUnavailable},
		{"the right name by another authority", foreign, gatewayID, http.StatusServiceUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			service, client := newTLSFolder(t), newTLSFolder(t)
			service.publish(t, ca, "spiffe://cluster.local/ns/tokenkit/sa/authz", ca.PEM)
			client.publish(t, c.by, c.identity, ca.PEM)
			_, front, key := secureStack(t, service, client)
			var got int
			request := func() bool {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+"/api/tokens/", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Api-Key", key)
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				got = response.StatusCode
				return got == c.want
			}
			if c.want == http.StatusOK {
				eventually(t, "a request passes", request)
			} else {
				for range 5 {
					if !request() {
						t.Errorf("status %d, want %d", got, c.want)
					}
				}
			}
			if _, err := login(t.Context(), front.URL, testUser, testPassword); (err == nil) != (c.want == http.StatusOK) {
				t.Errorf("logging in through it: %v", err)
			}
		})
	}
}

// Behind an Envoy that lets underscores through, the service itself removes
// what would pass for an identity header.
func TestAttackUnderscoresThroughEnvoy(t *testing.T) {
	envoytest.Require(t)
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, data, "--remove-underscored")
	command(t, testPassword+"\n", "user", "add", testUser, "--data", data)
	key := createKeyOffline(t, data, "k", "--owner", testUser, "--strict").Key
	upstream := echo.Start(t)
	config, err := envoy.Render(envoy.Options{
		Listen: "127.0.0.1:0", EnvoyAdmin: "127.0.0.1:0", Authz: []string{s.grpc}, AdminAPI: s.admin, Upstream: upstream.Address(), AuthzTimeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	lax := bytes.Replace(config, []byte("headers_with_underscores_action: REJECT_REQUEST"), []byte("headers_with_underscores_action: ALLOW"), 1)
	if bytes.Equal(lax, config) {
		t.Fatal("the configuration refuses no underscores")
	}
	front := envoytest.StartConfig(t, lax)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+"/api/tokens/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"X_api_key_id", "X-Api_key-Name", "X_api-Key-Owner", "X-Api-Key_metadata"} {
		r.Header.Set(name, "forged")
	}
	r.Header.Set("X_other", "kept")
	r.Header.Set("Api-Key", key)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	requests := upstream.Requests()
	if response.StatusCode != http.StatusOK || len(requests) != 1 {
		t.Fatalf("status %d, %d requests upstream", response.StatusCode, len(requests))
	}
	for name, values := range requests[0].Headers {
		if folded := strings.ReplaceAll(name, "_", "-"); strings.HasPrefix(folded, "x-api-key-") && (len(values) != 1 || values[0] == "forged") {
			t.Errorf("the upstream sees %s: %s", name, values)
		}
	}
	if requests[0].Header("x_other") != "kept" || requests[0].Header("x-api-key-id") != "1" {
		t.Errorf("the upstream sees %v", requests[0].Headers)
	}
}
