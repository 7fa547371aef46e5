package main

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// readOnly runs what follows with one folder, $0, writable and nothing else.
const readOnly = `
mount --bind "$0" "$0" && mount -o remount,bind,ro / || exit
for place in / /tmp /var/tmp "$HOME" "$TMPDIR" "$PWD"; do
	if [ -w "$place" ]; then echo "$place can be written"; exit 1; fi
done
exec "$@"
`

// The service needs to write nowhere but in its data folder, so that whoever
// takes it over can be kept from it.
func TestAttackReadOnlySystem(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	within := func(program string, args ...string) *exec.Cmd {
		return exec.Command("unshare", append([]string{"--map-root-user", "--mount", "sh", "-c", readOnly, data, program}, args...)...)
	}
	if said, err := within("true").CombinedOutput(); err != nil {
		t.Skipf("no read-only system can be made here: %v, %s", err, said)
	}
	s := prepareServer(t, data, "--metrics-listen", "127.0.0.1:0")
	confined := within(s.cmd.Path, s.cmd.Args[1:]...)
	confined.Stdout = s.cmd.Stdout
	s.cmd = confined
	s.start(t)
	command(t, testPassword+"\n", "user", "add", testUser, "--data", data)
	key := createKeyOffline(t, data, "k", "--owner", testUser, "--strict", "--rate-limit", "10").Key
	if e, _ := ask(t, s, key); !e.Allowed {
		t.Errorf("got %+v", e)
	}
	if _, err := login(t.Context(), "http://"+s.admin, testUser, testPassword); err != nil {
		t.Errorf("logging in: %v", err)
	}
	s.stop(t)
	again := startServer(t, data)
	if e, _ := ask(t, again, key); !e.Allowed {
		t.Errorf("after a restart: %+v", e)
	}
}

// No other machine reaches a port that the operator did not open to it.
func TestAttackListenersByDefault(t *testing.T) {
	found := 0
	new(settings).defaults().VisitAll(func(f *pflag.Flag) {
		if !strings.HasSuffix(f.Name, "-listen") {
			return
		}
		found++
		if address, err := netip.ParseAddrPort(f.DefValue); f.DefValue != "" && (err != nil || !address.Addr().IsLoopback()) {
			t.Errorf("--%s is %s by default", f.Name, f.DefValue)
		}
	})
	if found < 3 {
		t.Errorf("only %d listeners were found", found)
	}
}
