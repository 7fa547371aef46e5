package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tokenkithq/authz/apikey"
)

// run is one case on its way.
type run struct {
	stack    *Stack
	c        *Case
	address  netip.Addr
	values   map[string]string // of the placeholders
	secrets  []string          // their names
	answers  []Answer
	requests int
}

func newRun(stack *Stack, c *Case, address [4]byte) *run {
	r := &run{stack: stack, c: c, address: netip.AddrFrom4(address), values: map[string]string{
		"{address}": netip.AddrFrom4(address).String(), "{front}": stack.Front, "{owner}": stack.Owner,
		"{username}": stack.Username, "{password}": stack.Password, "{token}": stack.Token,
	}, secrets: []string{"{token}", "{password}"}}
	return r
}

func (r *run) run(ctx context.Context) error {
	if err := r.makeKeys(ctx); err != nil {
		return r.redact(fmt.Errorf("making its keys: %w", err))
	}
	for i := range r.c.Steps {
		step := &r.c.Steps[i]
		for n := range max(step.Times, 1) {
			if err := r.step(ctx, step); err != nil {
				return r.redact(fmt.Errorf("step %d, time %d (%s %s): %w", i+1, n+1, orText(step.Request, exampleRequest), strings.Join(step.Headers, ", "), err))
			}
		}
	}
	if r.c.Check != nil {
		if err := r.c.Check(r.answers); err != nil {
			return r.redact(fmt.Errorf("all answers together: %w", err))
		}
	}
	return nil
}

// redact puts placeholders back where secrets stand.
func (r *run) redact(err error) error {
	text := err.Error()
	for _, name := range r.secrets {
		if value := r.values[name]; value != "" {
			text = strings.ReplaceAll(text, value, name)
		}
	}
	// Keys that a case makes itself have no placeholder.
	return errors.New(secretPattern.ReplaceAllString(text, "{a key}"))
}

// fill replaces the placeholders in a text.
func (r *run) fill(text string) string {
	for name, value := range r.values {
		text = strings.ReplaceAll(text, name, value)
	}
	return text
}

func (r *run) makeKeys(ctx context.Context) error {
	// Not random, so never given out.
	unknown, err := apikey.NewSecret(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		return err
	}
	r.values["{unknown}"] = unknown.Reveal()
	r.secrets = append(r.secrets, "{unknown}")
	for i, body := range r.c.Keys {
		suffix := ""
		if i > 0 {
			suffix = strconv.Itoa(i + 1)
		}
		if !strings.Contains(body, `"name"`) {
			body = `{"name": "case", ` + strings.TrimPrefix(body, "{")
			body = strings.Replace(body, ", }", "}", 1)
		}
		answer, err := r.send(ctx, &Step{
			Request: "POST " + createPath, Body: body,
			Headers: []string{"Content-Type: application/json", "Authorization: Bearer {token}"},
		})
		if err != nil {
			return err
		}
		var created struct {
			ID  int64
			Key string
		}
		if answer.Status != 201 {
			return fmt.Errorf("creating a key from %s: status %d: %s", body, answer.Status, answer.Body)
		}
		if err := json.Unmarshal([]byte(answer.Body), &created); err != nil {
			return fmt.Errorf("creating a key: %w", err)
		}
		r.values["{key"+suffix+"}"] = created.Key
		r.values["{id"+suffix+"}"] = strconv.FormatInt(created.ID, 10)
		r.secrets = append(r.secrets, "{key"+suffix+"}")
	}
	return nil
}

func (r *run) step(ctx context.Context, step *Step) error {
	answer, err := r.send(ctx, step)
	if err != nil {
		return err
	}
	r.answers = append(r.answers, *answer)
	if err := r.judge(step, answer); err != nil || step.Keep == "" {
		return err
	}
	var shown struct{ Key string }
	if err := json.Unmarshal([]byte(answer.Body), &shown); err != nil || shown.Key == "" {
		return fmt.Errorf("expected the answer to show a key: %w", err)
	}
	r.values[step.Keep] = shown.Key
	r.secrets = append(r.secrets, step.Keep)
	return nil
}

func orText(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}
