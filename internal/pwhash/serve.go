package pwhash

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/tokenkithq/authz/internal/procs"
)

// Request is one hash to make.
type Request struct {
	Password    []byte
	Salt        []byte
	MemoryKiB   uint32
	Passes      uint32 // at least 1
	Parallelism uint8  // at least 1
	Length      uint32 // of the digest, in bytes
}

// Digest makes the hash in this process.
func (r Request) Digest() []byte {
	return argon2.IDKey(r.Password, r.Salt, r.Passes, r.MemoryKiB, r.Parallelism, r.Length)
}

// hello is what a process says before anything is asked of it.
type hello struct {
	// Failure is why it has not the lowest priority. Empty: it has.
	Failure string
}

type reply struct {
	Digest []byte
	Took   time.Duration // of processor time
}

// Serve lowers the priority of this process and makes the hashes that r asks
// for, one at a time, until r ends. Where the priority cannot be lowered it
// says so to w and returns why.
func Serve(r io.Reader, w io.Writer) error {
	return serve(r, w, lowerPriority)
}

func serve(r io.Reader, w io.Writer, lower func() error) error {
	in, out := gob.NewDecoder(r), gob.NewEncoder(w)
	if err := lower(); err != nil {
		return errors.Join(err, out.Encode(hello{Failure: err.Error()}))
	}
	if err := out.Encode(hello{}); err != nil {
		return fmt.Errorf("writing that hashes are made: %w", err)
	}
	for {
		var asked Request
		switch err := in.Decode(&asked); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading a hash to make: %w", err)
		}
		before, _ := procs.ProcessTime()
		answer := reply{Digest: asked.Digest()}
		after, _ := procs.ProcessTime()
		answer.Took = after - before
		if err := out.Encode(answer); err != nil {
			return fmt.Errorf("writing a hash: %w", err)
		}
		runtime.GC() // a hash leaves all its memory behind, and the next one has room in it
	}
}
