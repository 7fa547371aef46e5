package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// outcomes are what became of tests, by folder and name as reported: "pass",
// "fail" or "skip".
type outcomes struct {
	mu   sync.Mutex
	of   map[name]string
	said []string // by what failed
}

// atOnce is how many packages are tested at the same time; most of them wait
// for an Envoy now and then.
const atOnce = 3

// job is one run of "go test".
type job struct {
	folder    string
	functions []string
}

// jobs returns the runs in which each function of all lines runs once, longest
// first. The table of conformance has one of its own, since it takes as long as
// all else in its package.
func jobs(attacks []attack) []job {
	const table = "TestConformance"
	var all []job
	for _, a := range attacks {
		for _, n := range a.tests {
			at := slices.IndexFunc(all, func(j job) bool {
				return j.folder == n.folder && (n.top() == table) == (j.functions[0] == table)
			})
			if at < 0 {
				all = append(all, job{folder: n.folder})
				at = len(all) - 1
			}
			if j := &all[at]; !slices.Contains(j.functions, n.top()) {
				j.functions = append(j.functions, n.top())
			}
		}
	}
	weight := func(j job) int {
		if strings.HasPrefix(j.folder, "cmd/") {
			return 1000 + len(j.functions)
		}
		return len(j.functions)
	}
	slices.SortStableFunc(all, func(a, b job) int { return weight(b) - weight(a) })
	return all
}

// run runs the tests of all lines.
func run(ctx context.Context, attacks []attack, short bool) *outcomes {
	o := &outcomes{of: map[name]string{}}
	turns := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for _, j := range jobs(attacks) {
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			o.test(ctx, j.folder, j.functions, short)
		})
	}
	group.Wait()
	return o
}

// event is a line of "go test -json".
type event struct{ Action, Test, Output string }

func (o *outcomes) test(ctx context.Context, folder string, functions []string, short bool) {
	for i := range functions {
		functions[i] = regexp.QuoteMeta(functions[i])
	}
	// Attacks are on Envoy and one service; other ways to run the table show
	// that they are like it.
	command := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-timeout=30m",
		"-run", "^("+strings.Join(functions, "|")+")$", "-skip", "^TestConformance$/^[^e]", "./"+folder)
	command.Env = append(os.Environ(), "TOKENKIT_REQUIRE=1", "TOKENKIT_ATTACKS="+map[bool]string{true: "short", false: "long"}[short])
	var errs bytes.Buffer
	command.Stderr = &errs
	out, err := command.Output()

	o.mu.Lock()
	defer o.mu.Unlock()
	output := map[string]*strings.Builder{}
	for line := range bytes.Lines(out) {
		var e event
		if json.Unmarshal(line, &e) != nil {
			continue // what a test wrote past the testing package
		}
		switch e.Action {
		case "output":
			if output[e.Test] == nil {
				output[e.Test] = &strings.Builder{}
			}
			output[e.Test].WriteString(e.Output)
		case "pass", "fail", "skip":
			o.of[name{folder, e.Test}] = e.Action
			if said := output[e.Test]; e.Action != "pass" && said != nil {
				o.said = append(o.said, said.String())
			} else if said != nil {
				o.figures(said.String())
			}
		}
	}
	if err != nil {
		o.said = append(o.said, fmt.Sprintf("go test ./%s: %v\n%s", folder, err, errs.String()))
	}
}

// figures prints what tests measured, which nobody asserts.
func (o *outcomes) figures(said string) {
	for line := range strings.Lines(said) {
		if _, figure, found := strings.Cut(line, "measured: "); found {
			fmt.Print("measured: " + figure)
		}
	}
}

// open says what is wrong with the tests of a line, "" where nothing is.
func (o *outcomes) open(a *attack) string {
	var wrong []string
	for _, n := range a.tests {
		switch o.of[name{n.folder, n.reported()}] {
		case "pass":
		case "skip":
			wrong = append(wrong, n.String()+" was skipped")
		case "fail":
			wrong = append(wrong, n.String()+" failed")
		default:
			wrong = append(wrong, n.String()+" did not run")
		}
	}
	return strings.Join(wrong, ", ")
}
