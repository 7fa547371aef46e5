package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
)

// Settings are how a group wants the service and its front to be started.
type Settings struct {
	// Serve are flags of "tokenkit-authz serve" beyond addresses and data.
	Serve []string
	// Front are the options of the front; the [Env] fills in all addresses.
	Front envoy.Options
	// Socket asks for Checks over a Unix socket.
	Socket bool
	// Unreachable points the front to an authorization service that does not
	// exist. The admin API works.
	Unreachable bool
}

// Stack is a running front with all that stands behind it.
type Stack struct {
	// Front is the host:port of the front.
	Front string
	// Upstream is what the front protects.
	Upstream *echo.Recorder
	// Token is the token of a session, to make keys with.
	Token string
	// Owner is the name of that session's user.
	Owner string
	// Username and Password are what that user logs in with.
	Username, Password string
	// Close ends all parts.
	Close func() error
}

// Env starts stacks. Every stack must begin without keys and blocks.
type Env interface {
	Start(ctx context.Context, settings Settings) (*Stack, error)
}

// Group is a number of cases that share one stack.
type Group struct {
	Name     string
	Settings Settings
	Cases    []Case
}

// Case is one row of the table. Its texts may hold placeholders:
//
//	{key}, {key2}   the secrets of its keys
//	{id}, {id2}     their ids
//	{unknown}       a well-formed key that does not exist
//	{token}         a session's token
//	{owner}         the name of that session's user
//	{username}, {password}  what that user logs in with
//	{address}       the loopback address that its requests come from
//	{front}         the host:port of the front
type Case struct {
	Name string
	// Promise is the line of the public documentation that the case proves.
	Promise string
	// Keys are bodies of create-api-key, without the name.
	Keys []string
	// Steps are made in order.
	Steps []Step
	// Check looks at all answers together, where single ones do not show it.
	Check func(answers []Answer) error
}

// Step is a request and what must come of it.
type Step struct {
	// Times is how often it is made, with the same outcome. Zero: once.
	Times int
	// Request is the method and the target, "GET /api/tokens/?common=true"
	// where empty.
	Request string
	// Headers are header lines, sent as they are and in this order. Host,
	// Connection and Content-Length are added where they are missing.
	Headers []string
	// Body is the body.
	Body string
	// Other sends it from another address than {address}.
	Other bool
	// Keep is the placeholder by which later steps call the key that the
	// answer shows. Empty: none is.
	Keep string
	Want Want
}

// Want is what must come of a request.
type Want struct {
	// Status is the status of the answer; 200 where zero. A request that is
	// answered with less than 400 must have reached the upstream, unless
	// Local; any other must not.
	Status int
	// Local says that the answer comes from the front or from the admin API.
	Local bool
	// Code is that of the problem in the body.
	Code string
	// Body is a regular expression (RE2) that the body matches.
	Body string
	// Client and Upstream are headers at the client and at the upstream:
	//
	//	"name: value"   is there once, with this value
	//	"name: ~regex"  is there once, and all of its value matches
	//	"name"          is there
	//	"!name"         is not there
	Client, Upstream []string
	// Path is the request target that the upstream sees, the one that was
	// sent where empty.
	Path string
	// UpstreamBody is the body that the upstream sees, the one that was sent
	// where empty.
	UpstreamBody string
}

// Result is the outcome of a case.
type Result struct {
	Group, Case, Promise string
	// Err says which step did not come out as it must, and how. It holds no
	// secrets.
	Err error
}

// groupTimeout bounds one group, its start included.
const groupTimeout = 2 * time.Minute

// Run runs the cases of groups, one stack for each group, and returns a result
// for every case. Where a stack cannot be started all of its cases fail.
func Run(ctx context.Context, env Env, groups []Group) []Result {
	var results []Result
	for i, group := range groups {
		results = append(results, RunGroup(ctx, env, i, group)...)
	}
	return results
}

// RunGroup runs one group; its index in the table sets the source addresses.
func RunGroup(ctx context.Context, env Env, index int, group Group) []Result {
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	stack, startErr := env.Start(ctx, group.Settings)
	results := make([]Result, len(group.Cases))
	for i, c := range group.Cases {
		results[i] = Result{Group: group.Name, Case: c.Name, Promise: c.Promise}
		if startErr != nil {
			results[i].Err = fmt.Errorf("starting the stack: %w", startErr)
			continue
		}
		r := newRun(stack, &c, caseAddress(index, i))
		results[i].Err = r.run(ctx)
	}
	if startErr == nil {
		if err := stack.Close(); err != nil && len(results) > 0 && results[len(results)-1].Err == nil {
			results[len(results)-1].Err = fmt.Errorf("ending the stack: %w", err)
		}
	}
	return results
}

// caseAddress returns a loopback address that no other case has. The last
// byte is even; the one above it is the case's other address.
func caseAddress(group, index int) [4]byte {
	return [4]byte{127, byte(10 + group), byte(index / 100), byte(2 + 2*(index%100))}
}
