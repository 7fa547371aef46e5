package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/internal/etcdtest"
)

// Keys and sessions work in the file, then in etcd, then in a file again.
func TestMigrate(t *testing.T) {
	etcd := "etcd://" + strings.TrimPrefix(etcdtest.Start(t, 1).Members[0].Endpoint, "http://") + "/moved"
	here, there := filepath.Join(t.TempDir(), "here"), filepath.Join(t.TempDir(), "there")
	command(t, testPassword+"\n", "user", "add", testUser, "--data", here)
	key := createKeyOffline(t, here, "moved", "--owner", testUser).Key
	s := startServer(t, here)
	token, err := login(t.Context(), "http://"+s.admin, testUser, testPassword)
	if err != nil {
		t.Fatal(err)
	}
	if said := refused(t, "store", "migrate", "--data", here, "--to", etcd); !strings.Contains(said, "stop it first") {
		t.Errorf("while a service holds the file: %s", said)
	}
	s.stop(t)
	works := func(where string, s *server) {
		t.Helper()
		out := command(t, key+"\n", "check", "--server", s.grpc)
		if !strings.Contains(out, "allowed") {
			t.Errorf("%s: the key is refused: %s", where, out)
		}
		request, err := http.NewRequest(http.MethodGet, "http://"+s.admin+"/api/users/auth/api-keys/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: the session is refused: %s", where, response.Status)
		}
	}
	if out := command(t, "", "store", "migrate", "--data", here, "--to", etcd); out != "1 users and 1 keys moved\n" {
		t.Errorf("it says %q", out)
	}
	if said := refused(t, "store", "migrate", "--data", here, "--to", etcd); !strings.Contains(said, "expected nothing there") {
		t.Errorf("where there is something: %s", said)
	}
	s = startServer(t, there, "--store", etcd)
	works("etcd", s)
	if said := refused(t, "store", "migrate", "--data", filepath.Join(t.TempDir(), "other"), "--from", etcd, "--to", "file"); !strings.Contains(said, "1 replicas use it") {
		t.Errorf("while a replica uses it: %s", said)
	}
	s.stop(t)
	command(t, "", "store", "migrate", "--data", there, "--from", etcd, "--to", "file")
	if _, err := os.Stat(filepath.Join(there, "keys.db")); err != nil {
		t.Error(err)
	}
	works("the file again", startServer(t, there))
}
