//go:build linux

// Bench measures what a decision costs: it runs the real Envoy, the built
// program and, beside it, other ways to do the same, each in a process of its
// own, and makes load on all of them in turn.
//
//	go build -o bin/tokenkit-authz ./cmd/tokenkit-authz
//	go run ./internal/bench -program bin/tokenkit-authz
//
// Everything is measured several times, the cases after one another in rounds
// whose order changes, so that what else happens on the machine falls on all
// of them. What is printed are medians over the rounds; a ratio is the median
// of the ratios within a round.
package main
