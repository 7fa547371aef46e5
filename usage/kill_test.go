package usage_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/usage"
)

// killedFile is a variable of the environment: the file of a process that is
// to be killed.
const killedFile = "USAGE_KILLED_FILE"

// TestKilled is that process, and no test. It counts calls of one key, as many
// as it says, and says how many were written.
func TestKilled(t *testing.T) {
	path := os.Getenv(killedFile)
	if path == "" {
		t.Skip("part of TestKill")
	}
	journal := newFaulty(t, path)
	r := newRecorder(t, usage.Options{Journal: journal, FoldEvery: 1})
	for n := count(t, r, 1, time.Now()).Total(); ; {
		n++
		fmt.Println("counts", n)
		r.Record(1, apikey.ReasonAllowed, time.Now())
		write := r.Flush
		if n%2 == 0 {
			write = r.Step
		}
		if n%5 > 0 {
			continue
		}
		if err := write(context.Background()); err != nil {
			t.Fatal(err)
		}
		fmt.Println("wrote", n)
	}
}

// A process that is killed at any moment, again and again, has lost nothing of
// what it wrote, and counted nothing twice.
func TestKill(t *testing.T) {
	path := newPath(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	progress := uint64(0)
	for range 8 {
		cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), killedFile+"="+path)
		output, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var counted, wrote uint64
		lines, until := bufio.NewScanner(output), 20+rand.IntN(400)
		for n := 0; lines.Scan(); n++ {
			if n == until {
				_ = cmd.Process.Kill()
			}
			var number uint64
			verb, text, _ := strings.Cut(lines.Text(), " ")
			if _, err := fmt.Sscan(text, &number); err != nil {
				continue // a line that was cut off, or is the testing package's
			}
			switch verb {
			case "counts":
				counted = number
			case "wrote":
				wrote = number
			}
		}
		_ = cmd.Wait()
		journal := newFaulty(t, path)
		if err := journal.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := count(t, newRecorder(t, usage.Options{Journal: journal}), 1, time.Now()).Total()
		if err := journal.Close(); err != nil {
			t.Fatal(err)
		}
		if got < wrote || got > counted || counted == 0 {
			t.Fatalf("%d calls, expected %d to %d", got, wrote, counted)
		}
		progress = got
	}
	if progress < 50 {
		t.Errorf("only %d calls were written", progress)
	}
}
