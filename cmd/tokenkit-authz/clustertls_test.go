package main

import (
	"crypto/x509"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
	"github.com/tokenkithq/authz/internal/etcdtest"
	"github.com/tokenkithq/authz/internal/redistest"
	"github.com/tokenkithq/authz/internal/tlsfiles/tlsfilestest"
)

// secureEngines are an etcd and a Redis that let in only who shows a
// certificate and knows a password.
type secureEngines struct {
	etcd     *etcdtest.Cluster
	redisTLS string // host:port
	files    etcdtest.TLS
	etcdKey  string // file with the password
	redisKey string
	wrongKey string
	otherCA  string
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func startSecureEngines(t *testing.T) *secureEngines {
	t.Helper()
	const etcdPassword, redisPassword = "etcd-password-of-the-test", "redis-password-of-the-test"
	authority := tlsfilestest.NewAuthority(t)
	pair := authority.Issue(t, func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "test", Path: "/replica"}} })
	e := &secureEngines{
		files: etcdtest.TLS{
			CA: write(t, "ca.crt", authority.PEM), Certificate: write(t, "tls.crt", pair.Certificate), Key: write(t, "tls.key", pair.Key),
		},
		etcdKey: write(t, "etcd", []byte(etcdPassword+"\n")), redisKey: write(t, "redis", []byte(redisPassword+"\n")),
		wrongKey: write(t, "wrong", []byte("wrong\n")), otherCA: write(t, "other.crt", tlsfilestest.NewAuthority(t).PEM),
		redisTLS: redistest.FreeAddress(t),
	}
	_, port, _ := strings.Cut(e.redisTLS, ":")
	redistest.Start(t, append([]string{
		"--requirepass", redisPassword, "--tls-port", port, "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", e.files.CA, "--tls-cert-file", e.files.Certificate, "--tls-key-file", e.files.Key,
	}, durably...)...)

	e.etcd = etcdtest.StartTLS(t, 1, e.files)
	client, ctx := e.etcd.Client(t), t.Context()
	// The user of replicas may touch what is theirs and nothing else.
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range []string{"root", "replica"} {
		_, err := client.RoleAdd(ctx, role)
		must(err)
	}
	_, err := client.RoleGrantPermission(ctx, "replica", "/test/", clientv3.GetPrefixRangeEnd("/test/"), clientv3.PermissionType(clientv3.PermReadWrite))
	must(err)
	for user, role := range map[string]string{"root": "root", "tokenkit": "replica"} {
		_, err := client.UserAdd(ctx, user, etcdPassword)
		must(err)
		_, err = client.UserGrantRole(ctx, user, role)
		must(err)
	}
	_, err = client.AuthEnable(ctx)
	must(err)
	return e
}

// settings are those of a replica, with what should be different.
func (e *secureEngines) settings(different map[string]string) []string {
	settings := map[string]string{
		"store": "etcd+tls://" + strings.TrimPrefix(e.etcd.Members[0].Endpoint, "https://") + "/test", "store-ca": e.files.CA, "store-cert": e.files.Certificate,
		"store-cert-key": e.files.Key, "store-user": "tokenkit", "store-password-file": e.etcdKey,
		"limits": "rediss://" + e.redisTLS, "limits-ca": e.files.CA, "limits-cert": e.files.Certificate,
		"limits-cert-key": e.files.Key, "limits-password-file": e.redisKey,
	}
	var args []string
	for name, value := range settings {
		if other, found := different[name]; found {
			value = other
		}
		args = append(args, "--"+name, value)
	}
	return args
}

// Two replicas share an etcd and a Redis that ask for certificates and
// passwords, and count calls together; what is wrong is refused by name.
func TestEnginesOverTLS(t *testing.T) {
	envoytest.Require(t)
	e := startSecureEngines(t)
	first := startServer(t, t.TempDir(), e.settings(nil)...)
	second := startServer(t, t.TempDir(), e.settings(nil)...)
	command(t, testPassword+"\n", "user", "add", testUser, "--data", first.data)
	key := createKeyOffline(t, first.data, "secure", "--owner", testUser, "--rate-limit", "20").Key
	front := envoytest.Start(t, envoy.Options{Authz: []string{first.grpc, second.grpc}, Upstream: echo.Start(t).Address(), AuthzTimeout: 10 * time.Second})
	waitHealthy(t, front.AdminURL, 2)
	client := clientFrom("127.0.0.1", 4)
	defer client.CloseIdleConnections()
	allowed := 0
	for range 25 {
		status, err := get(t.Context(), client, front.URL, key)
		if err != nil {
			t.Fatal(err)
		}
		if status == 200 {
			allowed++
		}
	}
	if allowed != 20 {
		t.Errorf("%d calls were allowed, expected 20", allowed)
	}
	if err := exec.Command(binary(t), "key", "list", "--data", second.data).Run(); err != nil {
		t.Errorf("listing keys at the second replica: %v", err)
	}

	for _, c := range []struct {
		name, want string
		different  map[string]string
	}{
		{"the store's authority is another", "store_ca: ", map[string]string{"store-ca": e.otherCA}},
		{"the limits' authority is another", "limits_ca: ", map[string]string{"limits-ca": e.otherCA}},
		{"no certificate for the limits", "limits: ", map[string]string{"limits-cert": "", "limits-cert-key": ""}},
		{"a wrong password of the limits", "limits: ", map[string]string{"limits-password-file": e.wrongKey}},
		{"a wrong password of the store", "store: ", map[string]string{"store-password-file": e.wrongKey}},
		{"a prefix of others", "store: ", map[string]string{"store": "etcd+tls://" + strings.TrimPrefix(e.etcd.Members[0].Endpoint, "https://") + "/others"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"serve", "--data", t.TempDir(), "--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, e.settings(c.different)...)
			began := time.Now()
			out, err := exec.CommandContext(t.Context(), binary(t), args...).CombinedOutput()
			t.Logf("after %v: %s", time.Since(began), out)
			if err == nil || !strings.Contains(string(out), "tokenkit-authz: "+c.want) || strings.Contains(string(out), "-password-of-the-test") {
				t.Errorf("%v: %s, expected an error of %s", err, out, c.want)
			}
		})
	}
}
