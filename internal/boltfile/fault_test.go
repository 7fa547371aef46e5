package boltfile_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/internal/boltfile/boltfiletest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func tryPut(f *boltfile.File, key, value string) error {
	return f.Update(context.Background(), func(tx *boltfile.Tx) error { return tx.Put("a", []byte(key), []byte(value)) })
}

// get reads in a transaction of its own.
func get(t testing.TB, f *boltfile.File, key string) string {
	t.Helper()
	var text string
	must(t, f.View(context.Background(), func(tx *boltfile.Tx) error {
		value, err := tx.Get("a", []byte(key))
		text = string(value)
		return err
	}))
	return text
}

// Each call of a commit fails in turn. The change is refused, reads go on, the
// next change succeeds once the disk is well, without a restart, and a loss of
// power then loses none that was acknowledged.
func TestWriteFaults(t *testing.T) {
	boltfiletest.OnDisk(t, func(t *testing.T, disk *boltfiletest.Disk) {
		big := string(make([]byte, 300_000))
		for i, c := range []struct {
			call        string
			after       int
			errno       syscall.Errno
			value       string
			want        error
			mayBeThere  bool
			powerBefore bool // the power is lost before the next change
			one         bool // the power is lost after one more change
		}{
			{call: "write", errno: syscall.ENOSPC, want: boltfile.ErrFull},
			{call: "write", after: 1, errno: syscall.ENOSPC, want: boltfile.ErrFull},
			{call: "write", errno: syscall.EDQUOT, want: boltfile.ErrFull},
			{call: "write", after: 1, errno: syscall.EIO, want: boltfile.ErrUnavailable},
			// The third write is that of the meta page.
			{call: "write", after: 2, errno: syscall.ENOSPC, want: boltfile.ErrFull},
			{call: "write", after: 2, errno: syscall.EIO, want: boltfile.ErrUnavailable, mayBeThere: true},
			{call: "write", after: 2, errno: syscall.EIO, want: boltfile.ErrUnavailable, mayBeThere: true, powerBefore: true},
			{call: "write", after: 1, errno: syscall.EROFS, want: boltfile.ErrUnavailable},
			{call: "truncate", errno: syscall.ENOSPC, value: big, want: boltfile.ErrFull},
			{call: "truncate", errno: syscall.EFBIG, value: big, want: boltfile.ErrFull},
			{call: "sync", errno: syscall.EIO, want: boltfile.ErrUnavailable},
			{call: "sync", errno: syscall.ENOSPC, want: boltfile.ErrFull},
			{call: "sync", after: 1, errno: syscall.EIO, want: boltfile.ErrUnavailable, mayBeThere: true},
			{call: "sync", after: 1, errno: syscall.EIO, want: boltfile.ErrUnavailable, mayBeThere: true, powerBefore: true},
			// Both meta pages must be right even before they are written again.
			{call: "sync", after: 1, errno: syscall.EIO, want: boltfile.ErrUnavailable, mayBeThere: true, one: true},
			{call: "write", after: 2, errno: syscall.EIO, want: boltfile.ErrUnavailable, mayBeThere: true, one: true},
			{call: "sync", errno: syscall.EIO, want: boltfile.ErrUnavailable, powerBefore: true},
		} {
			name := fmt.Sprintf("case %d: %s %d %v", i, c.call, c.after, c.errno)
			path := filepath.Join(disk.Dir, fmt.Sprint("file", i))
			f, err := boltfile.Open(context.Background(), path, options)
			must(t, err)
			must(t, tryPut(f, "first", "value"))
			if c.value != "" { // room in the file would hide the fault
				must(t, tryPut(f, "room", big+big))
			}
			must(t, disk.Fail(c.call, c.after, -1, c.errno))
			// The second one meets what the first one left.
			for range 2 {
				value := "changed" + c.value
				if c.value != "" {
					value += value + value + value
				}
				if err := tryPut(f, "first", value); !errors.Is(err, c.want) {
					t.Fatalf("%s: got %v, expected %v", name, err, c.want)
				}
				if got := get(t, f, "first"); got != "value" && (!c.mayBeThere || got != value) {
					t.Fatalf("%s: a change that failed is there: %d bytes", name, len(got))
				}
			}
			must(t, disk.Heal())
			if !c.powerBefore {
				for j := range 5 {
					if !c.one || j == 4 {
						must(t, tryPut(f, "after", fmt.Sprint(j)))
					}
				}
			}
			must(t, f.Close())
			must(t, disk.Lose())
			f, err = boltfile.Open(context.Background(), path, options)
			if err != nil {
				t.Fatalf("%s: after a loss of power: %v", name, err)
			}
			if got := get(t, f, "after"); !c.powerBefore && got != "4" {
				t.Fatalf("%s: an acknowledged change is lost: %q", name, got)
			}
			if got := get(t, f, "first"); got != "value" && !c.mayBeThere {
				t.Fatalf("%s: a change that failed is there", name)
			}
			must(t, f.Close())
		}
	})
}

// After a commit whose last sync failed, a read that began before it keeps
// what it sees: no change is made until it ends.
func TestReaderOutlivesFailedSync(t *testing.T) {
	boltfiletest.OnDisk(t, func(t *testing.T, disk *boltfiletest.Disk) {
		f, err := boltfile.Open(context.Background(), filepath.Join(disk.Dir, "file"), options)
		must(t, err)
		must(t, tryPut(f, "key", "value"))
		must(t, f.View(context.Background(), func(tx *boltfile.Tx) error {
			must(t, disk.Fail("sync", 1, 1, syscall.EIO))
			if err := tryPut(f, "key", "changed"); !errors.Is(err, boltfile.ErrUnavailable) {
				t.Errorf("with a failing sync: %v", err)
			}
			for i := range 10 {
				if err := tryPut(f, fmt.Sprint(i), "more"); !errors.Is(err, boltfile.ErrUnavailable) || !strings.Contains(err.Error(), "reads that began before it") {
					t.Errorf("while the read goes on: %v", err)
				}
				if got := get(t, f, "key"); got != "changed" && got != "value" {
					t.Errorf("a new read sees %q", got)
				}
				value, err := tx.Get("a", []byte("key"))
				if err != nil || string(value) != "value" {
					t.Errorf("the old read sees %q, %v", value, err)
				}
			}
			return nil
		}))
		must(t, tryPut(f, "after", "value"))
		must(t, f.Close())
	})
}

// While a sync hangs, reads and backups go on and changes are refused in time.
func TestStalledSync(t *testing.T) {
	boltfiletest.OnDisk(t, func(t *testing.T, disk *boltfiletest.Disk) {
		for after := range 2 { // of the data, of the meta page
			path := filepath.Join(disk.Dir, fmt.Sprint("file", after))
			o := options
			o.CommitTimeout = time.Second
			f, err := boltfile.Open(context.Background(), path, o)
			must(t, err)
			must(t, tryPut(f, "key", "value"))
			must(t, disk.Stall("sync", after))
			for i := range 5 {
				// The first one waits as long as the options say.
				ctx, cancel := context.Background(), func() {}
				if i > 0 {
					ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
				}
				err := f.Update(ctx, func(tx *boltfile.Tx) error { return tx.Put("a", fmt.Append(nil, i), nil) })
				cancel()
				if !errors.Is(err, boltfile.ErrUnavailable) || i > 0 != errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("with a stalled sync: %v", err)
				}
				if got := get(t, f, "key"); got != "value" {
					t.Fatalf("a read sees %q", got)
				}
				if _, err := f.Backup(context.Background(), io.Discard); err != nil {
					t.Fatalf("backing up: %v", err)
				}
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := f.Update(ctx, func(*boltfile.Tx) error { return nil }); !errors.Is(err, context.Canceled) || !errors.Is(err, boltfile.ErrUnavailable) {
				t.Fatalf("a change whose context is done: %v", err)
			}
			must(t, disk.Heal())
			must(t, f.Close()) // waits for the change under way
			f, err = boltfile.Open(context.Background(), path, o)
			must(t, err)
			for i := 1; i < 5; i++ {
				if _, there := dump(t, f)["a/"+fmt.Sprint(i)]; there {
					t.Fatalf("change %d was made though its caller had left before it was begun", i)
				}
			}
			must(t, tryPut(f, "after", "value"))
			must(t, f.Close())
		}
	})
}

// A disk that is full, or that cannot be synced, leaves no part of a new file.
func TestCreateFaults(t *testing.T) {
	boltfiletest.OnDisk(t, func(t *testing.T, disk *boltfiletest.Disk) {
		path := filepath.Join(disk.Dir, "file")
		for _, c := range []struct {
			call  string
			after int
			errno syscall.Errno
			want  error
		}{
			{"create", 0, syscall.ENOSPC, boltfile.ErrFull},
			{"write", 0, syscall.ENOSPC, boltfile.ErrFull},
			{"write", 2, syscall.ENOSPC, boltfile.ErrFull},
			{"sync", 0, syscall.EIO, boltfile.ErrUnavailable},
			{"sync", 1, syscall.EIO, boltfile.ErrUnavailable},
			{"sync", 2, syscall.EIO, boltfile.ErrUnavailable},
			{"sync", 3, syscall.EIO, boltfile.ErrUnavailable},
			{"rename", 0, syscall.EIO, boltfile.ErrUnavailable},
			{"create", 0, syscall.EROFS, boltfile.ErrUnavailable},
		} {
			must(t, disk.Fail(c.call, c.after, -1, c.errno))
			if _, err := boltfile.Open(context.Background(), path, options); !errors.Is(err, c.want) {
				t.Fatalf("%s %d: got %v, expected %v", c.call, c.after, err, c.want)
			}
			must(t, disk.Heal())
			if left, err := filepath.Glob(disk.Dir + "/file*"); err != nil || len(left) != 0 {
				t.Fatalf("%s %d: %v is left, %v", c.call, c.after, left, err)
			}
		}
		f, err := boltfile.Open(context.Background(), path, options)
		must(t, err)
		must(t, f.Close())
	})
}
