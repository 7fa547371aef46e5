package tlsfiles_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tokenkithq/authz/internal/tlsfiles"
	"github.com/tokenkithq/authz/internal/tlsfiles/tlsfilestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run opens files and looks at them until stop is called.
func run(t *testing.T, o tlsfiles.Options) (files *tlsfiles.Files, stop func()) {
	t.Helper()
	files, err := tlsfiles.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := files.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return files, func() { cancel(); running.Wait() }
}

// text is what was logged so far.
type text struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *text) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(line)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *text) Len() int { return len(l.String()) }

func logged() (*slog.Logger, *text) {
	l := &text{}
	return slog.New(slog.NewTextHandler(l, nil)), l
}

// New files are used however they come, without a new configuration.
func TestReload(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(t *testing.T, dir string, p tlsfilestest.Pair)
	}{
		{"renamed into place", func(t *testing.T, dir string, p tlsfilestest.Pair) {
			put(t, filepath.Join(dir, "tls.crt"), p.Certificate)
			put(t, filepath.Join(dir, "tls.key"), p.Key)
		}},
		{"written anew", func(t *testing.T, dir string, p tlsfilestest.Pair) {
			for name, content := range map[string][]byte{"tls.crt": p.Certificate, "tls.key": p.Key} {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"the key much later", func(t *testing.T, dir string, p tlsfilestest.Pair) {
			put(t, filepath.Join(dir, "tls.crt"), p.Certificate)
			time.Sleep(time.Minute)
			put(t, filepath.Join(dir, "tls.key"), p.Key)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ca := tlsfilestest.NewAuthority(t)
			synctest.Test(t, func(t *testing.T) {
				first, second := ca.Issue(t, nil), ca.Issue(t, nil)
				dir, o := folder(t, first, nil)
				files, stop := run(t, o)
				defer stop()
				config := files.Config()
				if got := handshake(config, client(ca)); got.err != nil || got.serial.Cmp(first.Leaf.SerialNumber) != 0 {
					t.Fatalf("got %+v", got)
				}
				c.put(t, dir, second)
				time.Sleep(5 * time.Second)
				if got := handshake(config, client(ca)); got.err != nil || got.serial.Cmp(second.Leaf.SerialNumber) != 0 {
					t.Errorf("got %+v, want the certificate %v", got, second.Leaf.SerialNumber)
				}
			})
		})
	}
}

// Kubernetes exchanges a link to a folder.
func TestReloadOfKubernetes(t *testing.T) {
	ca := tlsfilestest.NewAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		publish := func(version string, p tlsfilestest.Pair) {
			t.Helper()
			if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, version, "tls.crt"), p.Certificate)
			put(t, filepath.Join(dir, version, "tls.key"), p.Key)
			if err := os.Symlink(version, filepath.Join(dir, "..data_tmp")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"tls.crt", "tls.key"} {
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		publish("..1", ca.Issue(t, nil))
		files, stop := run(t, tlsfiles.Options{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")})
		defer stop()
		for i := range 5 {
			p := ca.Issue(t, nil)
			publish(fmt.Sprintf("..%d", i+2), p)
			if err := os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..%d", i+1))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			if got := handshake(files.Config(), client(ca)); got.err != nil || got.serial.Cmp(p.Leaf.SerialNumber) != 0 {
				t.Errorf("version %d: got %+v", i+2, got)
			}
		}
	})
}

// What is broken is logged, once an hour, and the old files stay in use.
func TestBrokenFilesChangeNothing(t *testing.T) {
	ca := tlsfilestest.NewAuthority(t)
	for _, c := range []struct {
		name, logged string
		harm         func(t *testing.T, o tlsfiles.Options)
	}{
		{"no certificate", "cert ", func(t *testing.T, o tlsfiles.Options) { remove(t, o.Certificate) }},
		{"an empty one", "cert ", func(t *testing.T, o tlsfiles.Options) { put(t, o.Certificate, nil) }},
		{"the key of another", "private key does not match public key", func(t *testing.T, o tlsfiles.Options) { put(t, o.Key, ca.Issue(t, nil).Key) }},
		{"half an authority", "client_ca ", func(t *testing.T, o tlsfiles.Options) {
			put(t, o.ClientCA, append(bytes.Clone(ca.PEM), ca.PEM[:len(ca.PEM)/2]...))
		}},
		{"a key for an authority", `not a PEM block \"PRIVATE KEY\"`, func(t *testing.T, o tlsfiles.Options) { put(t, o.ClientCA, ca.Issue(t, nil).Key) }},
		{"a folder", "expected a file", func(t *testing.T, o tlsfiles.Options) {
			remove(t, o.Key)
			if err := os.Mkdir(o.Key, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{"too large", "expected at most 1048576 bytes", func(t *testing.T, o tlsfiles.Options) { put(t, o.ClientCA, make([]byte, 1<<20+1)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := ca.Issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(365 * 24 * time.Hour) })
				_, o := folder(t, p, ca.PEM)
				logger, text := logged()
				o.Logger, o.Interval = logger, time.Minute
				files, stop := run(t, o)
				defer stop()
				c.harm(t, o)
				time.Sleep(100 * time.Minute)
				synctest.Wait()
				if got := handshake(files.Config(), client(ca, p.TLS(t))); got.err != nil {
					t.Errorf("the old files are not used: %v", got.err)
				}
				if strings.Count(text.String(), "level=ERROR") != 2 || !strings.Contains(text.String(), c.logged) {
					t.Errorf("want 2 errors with %q, got %s", c.logged, text)
				}
				if strings.Contains(text.String(), "BEGIN") {
					t.Error("the contents of a file were logged")
				}
			})
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// An expiry is warned of before it comes, and told when it is there.
func TestExpiry(t *testing.T) {
	ca := tlsfilestest.NewAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		_, o := folder(t, ca.Issue(t, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(90 * 24 * time.Hour) }), nil)
		logger, text := logged()
		o.Logger, o.Interval = logger, 10*time.Minute
		files, stop := run(t, o)
		defer stop()
		const day = 24 * time.Hour
		time.Sleep(74 * day)
		synctest.Wait()
		if text.Len() > 0 {
			t.Errorf("16 days before: %s", text)
		}
		time.Sleep(2 * day)
		synctest.Wait()
		if n := strings.Count(text.String(), "level=WARN"); n < 1 || n > 2 {
			t.Errorf("14 days before there were %d warnings: %s", n, text)
		}
		time.Sleep(14 * day)
		synctest.Wait()
		if !strings.Contains(text.String(), "level=ERROR") || !strings.Contains(text.String(), "has expired") {
			t.Errorf("after it: %s", text)
		}
		fresh := ca.Issue(t, nil)
		put(t, o.Certificate, fresh.Certificate)
		put(t, o.Key, fresh.Key)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		before := text.Len()
		time.Sleep(12 * time.Hour)
		synctest.Wait()
		if text.Len() != before || !files.Expires().Equal(fresh.Leaf.NotAfter) {
			t.Errorf("after the renewal: %s", text.String()[before:])
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	ca := tlsfilestest.NewAuthority(t)
	for _, c := range []struct {
		name, want string
		change     func(o *tlsfiles.Options)
	}{
		{"nothing", "cert: expected a file", func(o *tlsfiles.Options) { *o = tlsfiles.Options{} }},
		{"no certificate", "cert: expected a file, since", func(o *tlsfiles.Options) { o.Certificate = "" }},
		{"no key", "key: expected the file with the private key", func(o *tlsfiles.Options) { o.Key = "" }},
		{"names of nobody", "client_ca: expected a file, since names", func(o *tlsfiles.Options) { o.ClientCA, o.ClientNames = "", []string{"a.example"} }},
		{"a wildcard", `client_names[1] "*.example.io": expected a DNS name`, func(o *tlsfiles.Options) { o.ClientNames = []string{"a.example", "*.example.io"} }},
		{"an odd URI", `client_names[0] "spiffe://": expected a URI`, func(o *tlsfiles.Options) { o.ClientNames = []string{"spiffe://"} }},
		{"an empty name", `client_names[0] "": expected`, func(o *tlsfiles.Options) { o.ClientNames = []string{""} }},
		{"a missing file", "cert /nowhere: no such file", func(o *tlsfiles.Options) { o.Certificate = "/nowhere" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, o := folder(t, ca.Issue(t, nil), ca.PEM)
			c.change(&o)
			if _, err := tlsfiles.Open(o); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// What is spoken over TLS is what the options say.
func TestProtocols(t *testing.T) {
	ca := tlsfilestest.NewAuthority(t)
	_, o := folder(t, ca.Issue(t, nil), nil)
	files, err := tlsfiles.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	config := client(ca)
	config.NextProtos = []string{"another"}
	if got := handshake(files.Config(), config); got.err == nil {
		t.Error("a protocol was spoken that is not offered")
	}
	if got := handshake(files.Config(), client(ca)); got.err != nil {
		t.Error(got.err)
	}
}
