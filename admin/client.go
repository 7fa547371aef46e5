package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/tokenkithq/authz/apikey"
)

// OperatorClient calls the operator API. Its methods return a [*Problem],
// wrapped, where the API refused, and another error where it could not be
// asked.
type OperatorClient struct {
	http *http.Client
}

// NewOperatorClient returns a client of the operator API on a Unix socket.
func NewOperatorClient(socket string) *OperatorClient {
	var dialer net.Dialer
	return &OperatorClient{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}
}

// NewLocalOperatorClient returns a client of an operator API in this process;
// handler is what [Admin.Operator] returned.
func NewLocalOperatorClient(handler http.Handler) *OperatorClient {
	return &OperatorClient{&http.Client{Transport: localTransport{handler}}}
}

// Close ends idle connections.
func (c *OperatorClient) Close() { c.http.CloseIdleConnections() }

// State returns the state of the server.
func (c *OperatorClient) State(ctx context.Context) (State, error) {
	var state State
	err := c.call(ctx, http.MethodGet, operatorState, nil, &state)
	return state, wrap("asking for the state", err)
}

// AddUser adds a user.
func (c *OperatorClient) AddUser(ctx context.Context, user NewUser) (User, error) {
	var added User
	err := c.call(ctx, http.MethodPost, operatorUsers, user, &added)
	return added, wrap("adding a user", err)
}

// ListUsers returns all users by ascending id.
func (c *OperatorClient) ListUsers(ctx context.Context) ([]User, error) {
	var users []User
	err := c.call(ctx, http.MethodGet, operatorUsers, nil, &users)
	return users, wrap("listing users", err)
}

// SetPassword changes a user's password and ends all of their sessions.
func (c *OperatorClient) SetPassword(ctx context.Context, name, password string) error {
	err := c.call(ctx, http.MethodPost, operatorPassword, passwordRequest{Name: name, Password: password}, nil)
	return wrap("changing a password", err)
}

// CreateKey makes a key for a user.
func (c *OperatorClient) CreateKey(ctx context.Context, key OwnedKey) (CreatedKey, error) {
	var created CreatedKey
	err := c.call(ctx, http.MethodPost, operatorKeys, key, &created)
	return created, wrap("creating a key", err)
}

// ListKeys returns the keys of a user, or of all where owner is empty, by
// ascending id.
func (c *OperatorClient) ListKeys(ctx context.Context, owner string) ([]Key, error) {
	path := operatorKeys
	if owner != "" {
		path += "?" + url.Values{"owner": {owner}}.Encode()
	}
	var keys []Key
	err := c.call(ctx, http.MethodGet, path, nil, &keys)
	return keys, wrap("listing keys", err)
}

// DeleteKey deletes a key of any user.
func (c *OperatorClient) DeleteKey(ctx context.Context, id apikey.KeyID) (DeletedKey, error) {
	var deleted DeletedKey
	err := c.call(ctx, http.MethodPost, operatorDeleteKey, deleteKeyRequest{KeyID: int64(id)}, &deleted)
	return deleted, wrap("deleting a key", err)
}

// ListBlocks returns the blocked addresses.
func (c *OperatorClient) ListBlocks(ctx context.Context) ([]BlockInfo, error) {
	var blocks []BlockInfo
	err := c.call(ctx, http.MethodGet, operatorBlocks, nil, &blocks)
	return blocks, wrap("listing blocked addresses", err)
}

// Unblock ends the block that holds for an address. One that is not blocked is
// a [Problem] with [CodeNotFound].
func (c *OperatorClient) Unblock(ctx context.Context, addr netip.Addr) error {
	return wrap("unblocking an address", c.call(ctx, http.MethodPost, operatorUnblock, unblockRequest{Address: addr.String()}, nil))
}

// Backup writes a consistent copy of the store to w and returns its length in
// bytes. A copy that breaks off is an error.
func (c *OperatorClient) Backup(ctx context.Context, w io.Writer) (int64, error) {
	response, err := c.send(ctx, http.MethodPost, operatorBackup, nil)
	if err != nil {
		return 0, wrap("backing up", err)
	}
	defer closeBody(response)
	n, err := io.Copy(w, response.Body)
	return n, wrap("backing up", err)
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// call sends a request and reads its answer into out, unless that is nil.
func (c *OperatorClient) call(ctx context.Context, method, path string, in, out any) error {
	response, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer closeBody(response)
	if out == nil {
		return nil
	}
	return decode(response.Body, out)
}

// decode reads an answer into out.
func decode(body io.Reader, out any) error {
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// send returns the answer to a request if it is a success.
func (c *OperatorClient) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("writing the request: %w", err)
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://operator"+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		// What the client library adds, method and address, says nothing here.
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, err
	}
	if response.StatusCode < 300 {
		return response, nil
	}
	defer closeBody(response)
	problem := &Problem{}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(problem); err != nil || problem.Code == "" {
		return nil, fmt.Errorf("unexpected answer: %s", response.Status)
	}
	return nil, problem
}

// closeBody ends an answer; what fails then was read already.
func closeBody(response *http.Response) { _ = response.Body.Close() }

// localTransport answers requests by a handler in this process, as a server
// and a connection would: the body is streamed, and a handler that aborts
// makes it end in an error.
type localTransport struct{ handler http.Handler }

func (t localTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	request := r.Clone(ctx)
	request.RequestURI = r.URL.RequestURI()
	request.Host = r.URL.Host
	if request.Body == nil {
		request.Body = http.NoBody
	}
	reader, writer := io.Pipe()
	answer := &localAnswer{header: http.Header{}, body: writer, started: make(chan struct{})}
	go func() {
		defer cancel()
		defer func() {
			if cause := recover(); cause != nil {
				answer.WriteHeader(http.StatusInternalServerError)
				_ = writer.CloseWithError(io.ErrUnexpectedEOF)
				return
			}
			answer.WriteHeader(http.StatusOK)
			_ = writer.Close()
		}()
		t.handler.ServeHTTP(answer, request)
	}()
	select {
	case <-answer.started:
	case <-r.Context().Done():
		_ = reader.CloseWithError(context.Cause(r.Context()))
		cancel()
		return nil, context.Cause(r.Context())
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", answer.status, http.StatusText(answer.status)), StatusCode: answer.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: answer.sent, Body: reader, ContentLength: -1, Request: r,
	}, nil
}

// localAnswer is the [http.ResponseWriter] of a localTransport. One goroutine
// writes to it; the other reads status and sent once started is closed.
type localAnswer struct {
	header, sent http.Header
	status       int
	body         *io.PipeWriter
	started      chan struct{}
}

func (a *localAnswer) Header() http.Header { return a.header }

func (a *localAnswer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	a.status, a.sent = status, a.header.Clone()
	close(a.started)
}

func (a *localAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}
