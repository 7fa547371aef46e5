// Package pwhash makes argon2id hashes in another process of the same program,
// which gets a processor only while nobody else wants it.
//
// A hash keeps a processor busy for tens of milliseconds. Whoever shares that
// processor waits meanwhile; a thread of a lower priority does not help, since
// the garbage collector stops the world, and waits with everybody for a thread
// that does not get to run. Another process has a world of its own.
//
//	pool := pwhash.New(pwhash.Options{Command: pwhash.Self("hash-passwords")})
//	go pool.Run(ctx)
//	digest, took, err := pool.Hash(ctx, pwhash.Request{...})
//
// and in that command: pwhash.Serve(os.Stdin, os.Stdout).
//
// The processes are started for the first hash and end after a minute without
// one, or with the pipe from the process that started them. What they are asked
// comes through that pipe only: nothing of it is in arguments or environment.
package pwhash
