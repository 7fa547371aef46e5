package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// judge compares an answer with what was wanted.
func (r *run) judge(step *Step, answer *Answer) error {
	want := &step.Want
	var wrong []error
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }

	status := want.Status
	if status == 0 {
		status = http.StatusOK
	}
	if answer.Status != status {
		fail("status %d, want %d; body %q", answer.Status, status, answer.Body)
	}
	if want.Code != "" {
		var problem struct {
			Code   string
			Status int
			Title  string
		}
		if err := json.Unmarshal([]byte(answer.Body), &problem); err != nil {
			fail("the body is no JSON: %w: %q", err, answer.Body)
		} else if problem.Code != want.Code || problem.Status != status || problem.Title == "" {
			fail("problem %+v, want code %s and status %d", problem, want.Code, status)
		}
		if err := matchHeader(answer.Headers, "content-type: application/problem+json"); err != nil {
			wrong = append(wrong, err)
		}
	}
	if want.Body != "" {
		matched, err := regexp.MatchString(r.fill(want.Body), answer.Body)
		if err != nil || !matched {
			fail("body %q, want %s (%v)", answer.Body, want.Body, err)
		}
	}
	for _, rule := range want.Client {
		if err := matchHeader(answer.Headers, r.fill(rule)); err != nil {
			fail("at the client: %w", err)
		}
	}
	if err := r.judgeUpstream(want, status, answer); err != nil {
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

func (r *run) judgeUpstream(want *Want, status int, answer *Answer) error {
	reached := status < 400 && !want.Local
	switch {
	case !reached && answer.Upstream != nil:
		return errors.New("the request reached the upstream")
	case !reached:
		return nil
	case answer.Upstream == nil:
		return errors.New("the request did not reach the upstream")
	}
	var wrong []error
	headers := http.Header{}
	for name, values := range answer.Upstream.Headers {
		headers[http.CanonicalHeaderKey(name)] = values
	}
	for _, rule := range want.Upstream {
		if err := matchHeader(headers, r.fill(rule)); err != nil {
			wrong = append(wrong, fmt.Errorf("at the upstream: %w", err))
		}
	}
	if path := orText(r.fill(want.Path), answer.target); answer.Upstream.Path != path {
		wrong = append(wrong, fmt.Errorf("at the upstream: path %q, want %q", answer.Upstream.Path, path))
	}
	if body := orText(r.fill(want.UpstreamBody), answer.body); answer.Upstream.Body != body {
		wrong = append(wrong, fmt.Errorf("at the upstream: body %q, want %q", answer.Upstream.Body, body))
	}
	return errors.Join(wrong...)
}

// matchHeader applies a rule as [Want] describes them.
func matchHeader(headers http.Header, rule string) error {
	if name, absent := strings.CutPrefix(rule, "!"); absent {
		if values := headers.Values(name); len(values) > 0 {
			return fmt.Errorf("header %s is there: %q", name, values)
		}
		return nil
	}
	name, want, hasValue := strings.Cut(rule, ": ")
	values := headers.Values(name)
	switch pattern, isPattern := strings.CutPrefix(want, "~"); {
	case len(values) == 0:
		return fmt.Errorf("header %s is not there", name)
	case !hasValue:
		return nil
	case len(values) > 1:
		return fmt.Errorf("header %s is there %d times: %q", name, len(values), values)
	case isPattern:
		matched, err := regexp.MatchString("^(?:"+pattern+")$", values[0])
		if err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
		if !matched {
			return fmt.Errorf("header %s is %q, want %s", name, values[0], pattern)
		}
	case values[0] != want:
		return fmt.Errorf("header %s is %q, want %q", name, values[0], want)
	}
	return nil
}
