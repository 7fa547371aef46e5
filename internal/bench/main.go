//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tokenkithq/authz/internal/bench/load"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// The roles in which this program runs itself, as its first argument.
const (
	roleLoad     = "load"
	roleAllowAll = "allow-all"
	roleHTTPAuth = "http-auth"
	roleEtcd     = "etcd"
)

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case roleLoad:
			return load.Serve(in, out)
		case roleAllowAll:
			return serveAllowAll(in, out, args[1:])
		case roleHTTPAuth:
			return serveHTTPAuth(in, out, args[1:])
		case roleEtcd:
			return serveEtcd(in, out, args[1:])
		}
	}
	s, err := parseSettings(args)
	if err != nil {
		return err
	}
	// Only this role: the others end as they are told to.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("it took longer than %v", s.limit))
	defer cancel()
	l, err := newLab(ctx, s, out)
	if err != nil {
		return err
	}
	err = l.measure()
	return errors.Join(err, l.close())
}

// settings are what the command line says.
type settings struct {
	program     string
	short       bool
	rounds      int
	duration    time.Duration
	concurrency int
	parts       []string
	limit       time.Duration
}

// part is one table of the report.
type part struct {
	name, about string
	long        bool // left out of a short run
	run         func(*lab) error
}

// parts are in the order in which they are run; the ratios of the first are
// printed last.
func parts() []part {
	return []part{
		{"compare", "side by side through Envoy", false, (*lab).compare},
		{"keys", "few and many keys, hot, Zipf and absent, with limits and without", true, (*lab).manyKeys},
		{"direct", "calls straight to the service, on one core and on two", true, (*lab).direct},
		{"start", "the first seconds with a million keys", true, (*lab).coldStart},
		{"changes", "latency while keys change and while a backup runs", true, (*lab).changes},
		{"scan", "good keys while others are guessed", true, (*lab).scan},
		{"watch", "what metrics, the decision log and traces cost", true, (*lab).watched},
		{"shared", "what it costs to share limits among replicas", true, (*lab).shared},
		{"study", "where Envoy's time goes, and other ways to ask", true, (*lab).study},
	}
}

func parseSettings(args []string) (*settings, error) {
	s := &settings{}
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&s.program, "program", "bin/tokenkit-authz", "the program to measure")
	flags.BoolVar(&s.short, "short", false, "the comparison only, in less than 50 seconds")
	flags.IntVar(&s.rounds, "rounds", 0, "rounds of each part; 0: 7, 9 with -short")
	flags.DurationVar(&s.duration, "duration", 0, "how long each case is measured in each round; 0: 2s, 450ms with -short")
	flags.IntVar(&s.concurrency, "concurrency", 1, "worker threads of Envoy")
	flags.DurationVar(&s.limit, "limit", 0, "give up after this time; 0: 46s with -short, else an hour")
	what := flags.String("what", "", "parts to run, separated by commas; empty: all of "+strings.Join(names, ", "))
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("argument %q: expected flags only", flags.Arg(0))
	}
	for _, p := range parts() {
		if *what == "" && !(s.short && p.long) {
			s.parts = append(s.parts, p.name)
		}
	}
	if *what != "" {
		s.parts = strings.Split(*what, ",")
	}
	for _, name := range s.parts {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("-what %q: expected some of %s", name, strings.Join(names, ", "))
		}
	}
	s.defaults()
	return s, nil
}

func (s *settings) defaults() {
	rounds, duration := 7, 2*time.Second
	if s.short { // many short rounds: what disturbs one of them is soon over
		rounds, duration = 9, 450*time.Millisecond
	}
	if s.rounds == 0 {
		s.rounds = rounds
	}
	if s.duration == 0 {
		s.duration = duration
	}
	if s.limit == 0 {
		s.limit = time.Hour
		if s.short {
			s.limit = 46 * time.Second
		}
	}
}
