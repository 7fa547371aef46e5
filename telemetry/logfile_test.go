package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/apikey"
)

// A log that was moved away is begun anew.
func TestDecisionLogRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions.log")
	l := openLog(t, DecisionLogOptions{Path: path})
	tell(l, apikey.ReasonScope)
	l.flush()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	tell(l, apikey.ReasonOrigin)
	l.flush()
	if err := os.Truncate(path, 0); err != nil { // the other way to rotate
		t.Fatal(err)
	}
	tell(l, apikey.ReasonAddress)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if old, now := reasonsIn(t, readFile(t, path+".1")), reasonsIn(t, readFile(t, path)); len(old) != 1 || len(now) != 1 || now[0] != "address_not_allowed" {
		t.Errorf("before %q, after %q", old, now)
	}
}

// fullDisk takes a number of bytes, then none.
type fullDisk struct {
	room int
	bytes.Buffer
}

var errFull = errors.New("no space")

func (d *fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), d.room)
	d.room -= n
	d.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// What a full disk cut stays one bad line; what is lost is counted and logged
// once.
func TestDecisionLogOfAFullDisk(t *testing.T) {
	one := len(appendDecision(nil, new(decided(apikey.ReasonScope)), 1))
	disk := &fullDisk{room: one + one/2}
	var logs bytes.Buffer
	l := openLog(t, DecisionLogOptions{Writer: disk, Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	tell(l, apikey.ReasonScope, apikey.ReasonScope, apikey.ReasonScope)
	l.flush()
	tell(l, apikey.ReasonScope)
	l.flush()
	if stats := l.Stats(); stats.Written != 1 || stats.Failed != 3 {
		t.Errorf("stats %+v", stats)
	}
	disk.room = 1 << 20
	tell(l, apikey.ReasonOrigin)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(disk.String()), "\n")
	if len(lines) != 3 || len(lines[1]) != one/2 || reasonsIn(t, lines[2])[0] != "origin_not_allowed" {
		t.Errorf("lines %q", lines)
	}
	if strings.Count(logs.String(), "cannot be written") != 1 || !strings.Contains(logs.String(), "is written again") || !strings.Contains(logs.String(), "lost=3") {
		t.Errorf("logged %s", logs.String())
	}
}
