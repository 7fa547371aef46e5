//go:build linux

// Package load makes requests, over HTTP to an Envoy or over gRPC straight to
// an authorization service, and measures how they are answered.
//
// One [Job] says what to send; [Run] sends it and returns a [Result]:
//
//	result, err := load.Run(load.Job{Address: "127.0.0.1:10000", Secrets: path, Duration: time.Second})
//
// A job with a rate is an open loop: requests are due at random times whatever
// the answers, and latency counts from when one was due, so that a stall is
// seen by all who would have waited. One without is a closed loop: each
// connection sends its next request when the last is answered.
//
// The program that measures runs jobs in a process of their own with [Serve]
// and [Process], so that making load is told from serving it.
package load
