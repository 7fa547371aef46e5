package conformance

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tokenkithq/authz/envoy/echo"
)

const (
	exampleRequest = "GET /api/tokens/?common=true"
	createPath     = "/api/users/auth/create-api-key/"
	deletePath     = "/api/users/auth/api-keys/delete/"
)

// markHeader carries a mark by which a request is found at the upstream.
const markHeader = "x-conformance-mark"

// requestTimeout bounds one request.
const requestTimeout = 20 * time.Second

// Answer is what came of a request.
type Answer struct {
	Status  int
	Headers http.Header
	Body    string
	// Upstream is the request as it reached the upstream; nil where it did
	// not.
	Upstream *echo.Request

	target, body string // as sent
}

// send writes the request of a step to a new connection and reads the answer.
func (r *run) send(ctx context.Context, step *Step) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	method, target, _ := strings.Cut(r.fill(orText(step.Request, exampleRequest)), " ")
	r.requests++
	mark := fmt.Sprintf("%s-%d", r.address, r.requests)
	body := r.fill(step.Body)
	message := r.message(step, method, target, mark, body)

	from := r.address
	if step.Other {
		from = from.Next()
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	connection, err := dialer.DialContext(ctx, "tcp", r.stack.Front)
	if err != nil {
		return nil, fmt.Errorf("connecting from %v: %w", from, err)
	}
	defer func() { _ = connection.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := connection.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if _, err := connection.Write(message); err != nil {
		return nil, fmt.Errorf("sending: %w", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: method})
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer := &Answer{Status: response.StatusCode, Headers: response.Header, target: target, body: body}
	if response.StatusCode != http.StatusSwitchingProtocols {
		text, err := io.ReadAll(response.Body)
		if err != nil {
			return nil, fmt.Errorf("reading the answer: %w", err)
		}
		answer.Body = string(text)
	}
	if request, found := r.stack.Upstream.Find(markHeader, mark); found {
		answer.Upstream = &request
	}
	return answer, nil
}

func (r *run) message(step *Step, method, target, mark, body string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n%s: %s\r\n", method, target, markHeader, mark)
	has := map[string]bool{}
	for _, line := range step.Headers {
		name, _, _ := strings.Cut(line, ":")
		has[strings.ToLower(name)] = true
		fmt.Fprintf(&b, "%s\r\n", r.fill(line))
	}
	for _, line := range []string{
		"Host: " + r.stack.Front, "Connection: close", fmt.Sprintf("Content-Length: %d", len(body)),
	} {
		name, _, _ := strings.Cut(strings.ToLower(line), ":")
		if name == "content-length" && (body == "" && method != http.MethodPost || has["transfer-encoding"]) {
			continue
		}
		if !has[name] {
			fmt.Fprintf(&b, "%s\r\n", line)
		}
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}
