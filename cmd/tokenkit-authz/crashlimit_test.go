package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
)

// checker makes Checks of one start of the service, as Envoy would.
type checker struct {
	conn    *grpc.ClientConn
	timeout time.Duration // of one Check
	authv3.AuthorizationClient
}

func newChecker(t testing.TB, address string) *checker {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	return &checker{conn, 10 * time.Second, authv3.NewAuthorizationClient(conn)}
}

func (c *checker) close() { _ = c.conn.Close() }

// ask makes one Check. Empty texts are left out; the address is then one of
// this machine.
func (c *checker) ask(key, origin, address string) (explanation, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	headers := map[string]string{"api-key": key}
	if origin != "" {
		headers["origin"] = origin
	}
	if address == "" {
		address = "127.0.0.1"
	}
	response, err := c.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: address},
		}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/api/tokens/", Headers: headers,
		}},
	}})
	if err != nil {
		return explanation{}, err
	}
	return explain(response), nil
}

// limitedKey is a key whose calls are counted from its creation on. No run
// lasts an hour with one key, so that they must never exceed its limit.
type limitedKey struct {
	madeKey
	limit int64
	born  time.Time
	kills int64 // since its creation

	allowed  atomic.Int64 // answers that arrived
	unsure   atomic.Int64 // calls whose answer did not
	failed   atomic.Int64 // unsure ones since the service was started
	denials  atomic.Int64 // since the service was started
	unknown  atomic.Int64 // denials for any other reason than the limit
	before   int64        // allowed when it was last judged
	reported bool
}

// call makes a call and counts it.
func (k *limitedKey) call(checks *checker) {
	answer, err := checks.ask(k.secret, "", "")
	switch {
	case err != nil || answer.Status >= 500:
		k.unsure.Add(1)
		k.failed.Add(1)
	case answer.Allowed:
		k.allowed.Add(1)
	case answer.Reason == apikey.ReasonRateLimit.String():
		k.denials.Add(1)
	default:
		k.unknown.Add(1)
	}
}

// over returns by how many calls the limit was exceeded.
func (k *limitedKey) over() int { return int(max(0, k.allowed.Load()-k.limit)) }

const (
	// limitedKeys is how many limited keys there are at most. After 64 kills a
	// key has paid all of its calls, so the oldest make room for new ones.
	limitedKeys = 80
	// limitedLife keeps calls of a key within 60 minutes.
	limitedLife = 50 * time.Minute
)

// renewLimits makes two keys with limits and deletes what is too old.
func (c *crashRun) renewLimits(s *server) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	client := admin.NewOperatorClient(filepath.Join(s.data, "control.sock"))
	defer client.Close()
	for len(c.limits) > 0 && (len(c.limits) > limitedKeys-2 || time.Since(c.limits[0].born) > limitedLife) {
		key := c.limits[0]
		if _, err := client.DeleteKey(ctx, key.id); err != nil {
			c.t.Fatalf("deleting a limited key: %v", err)
		}
		c.overLimit += key.over()
		c.acknowledged++
		c.retired++
		c.limits = c.limits[1:]
	}
	limits := [...]int64{1, 20_000, 10, 64, 65, 100, 500, 5000}
	for range 2 {
		n := limits[(c.retired+len(c.limits))%len(limits)]
		asked := admin.NewKey{Name: fmt.Sprintf("limited-%d-%d", n, c.retired+len(c.limits)), RateLimitPerHour: &n}
		created, err := client.CreateKey(ctx, admin.OwnedKey{Owner: crashUser, NewKey: asked})
		if err != nil {
			c.t.Fatalf("making a limited key: %v", err)
		}
		c.acknowledged++
		c.limits = append(c.limits, &limitedKey{madeKey: madeKey{created.ID, created.Key, asked}, limit: n, born: time.Now()})
	}
}

// judgeLimits looks at the calls since the last start. A key may be denied only
// once its calls and the price of the kills, at most max(1, limit/64) each, come
// to its limit.
func (c *crashRun) judgeLimits() {
	for _, key := range c.limits {
		if key.over() > 0 && !key.reported {
			key.reported = true
			c.t.Errorf("after %d kills: a key with a limit of %d was allowed %d calls", c.kills, key.limit, key.allowed.Load())
		}
		spent := key.allowed.Load() + key.unsure.Load() + key.kills*max(1, key.limit/64)
		if key.denials.Swap(0) > 0 && spent < key.limit {
			c.t.Errorf("after %d kills: a key with a limit of %d was denied with %d calls allowed, %d unsure and %d kills since its creation",
				c.kills, key.limit, key.allowed.Load(), key.unsure.Load(), key.kills)
		}
		key.failed.Store(0) // those of the kill
		if n := key.unknown.Swap(0); n > 0 {
			c.lost++
			c.t.Errorf("after %d kills: limited key %d was denied %d times, but not for its limit", c.kills, key.id, n)
		}
		if key.kills > 0 {
			c.allowedAfterKill += key.allowed.Load() - key.before
		}
		key.before = key.allowed.Load()
	}
}
