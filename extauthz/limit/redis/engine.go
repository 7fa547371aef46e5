package redis

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by it
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

var _ lease.Engine = (*Client)(nil)

var (
	//go:embed account.lua
	accountSource string
	//go:embed replicas.lua
	replicasSource string
)

// script is a script and the name by which a server knows it that has seen it.
type script struct{ source, name string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // Redis names scripts by it
	return script{source, hex.EncodeToString(sum[:])}
}

func (c *Client) call(s script, known bool, keys []string, args []string) rueidis.Completed {
	b := c.rueidis.B()
	if known {
		return b.Evalsha().Sha1(s.name).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
	}
	return b.Eval().Script(s.source).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
}

func (c *Client) accountKey(id apikey.KeyID) string {
	return c.prefix + ":limit:{" + strconv.FormatInt(int64(id), 10) + "}"
}

func leaseName(id lease.ID) string {
	return strconv.FormatUint(id.Replica, 36) + "." + strconv.FormatUint(id.Number, 36)
}

func arguments(r *lease.Request) []string {
	args := make([]string, 0, 7+2*len(r.Back))
	args = append(args,
		strconv.FormatUint(uint64(r.Limit), 10), leaseName(r.Lease), strconv.FormatUint(uint64(r.Tokens), 10),
		strconv.FormatInt(r.Span.Milliseconds(), 10), strconv.FormatInt(r.Latest, 10), strconv.FormatUint(r.Seen, 10),
		strconv.FormatInt(r.Farthest, 10))
	for _, back := range r.Back {
		args = append(args, leaseName(back.Lease), strconv.FormatUint(uint64(back.Unused), 10))
	}
	return args
}

// Exchange implements [lease.Engine].
func (c *Client) Exchange(ctx context.Context, requests []lease.Request, grants []lease.Grant) error {
	if c.replicas == 0 {
		runs, _ := c.send(ctx, c.rueidis, requests, grants)
		c.accept(ctx, runs, grants)
		return nil
	}
	if c.rueidis.Mode() != rueidis.ClientModeCluster {
		c.sendAndWait(ctx, requests, grants)
		return nil
	}
	// Only the node that has a key can say who else has what was done to it.
	var group sync.WaitGroup
	turns := make(chan struct{}, 16)
	for i := range requests {
		turns <- struct{}{}
		group.Go(func() {
			c.sendAndWait(ctx, requests[i:i+1], grants[i:i+1])
			<-turns
		})
	}
	group.Wait()
	return nil
}

// sender is what commands are sent by.
type sender interface {
	DoMulti(ctx context.Context, multi ...rueidis.Completed) []rueidis.RedisResult
}

// send carries out requests. It returns the run of the server that answered
// each, and what is said to further commands.
func (c *Client) send(ctx context.Context, to sender, requests []lease.Request, grants []lease.Grant, further ...rueidis.Completed) ([]string, []rueidis.RedisResult) {
	runs := make([]string, len(requests))
	var again []int // what a server that does not know the script is asked again
	commands := make([]rueidis.Completed, 0, len(requests)+len(further))
	for i := range requests {
		commands = append(commands, c.call(c.account, true, []string{c.accountKey(requests[i].Key)}, arguments(&requests[i])))
	}
	results := to.DoMulti(ctx, append(commands, further...)...)
	rest := results[len(requests):]
	for i := range requests {
		grants[i], runs[i] = grantOf(results[i])
		if isNoScript(grants[i].Err) {
			again = append(again, i)
		}
	}
	if len(again) == 0 {
		return runs, rest
	}
	commands = commands[:0]
	for _, i := range again {
		commands = append(commands, c.call(c.account, false, []string{c.accountKey(requests[i].Key)}, arguments(&requests[i])))
	}
	results = to.DoMulti(ctx, append(commands, further...)...)
	rest = results[len(again):]
	for j, i := range again {
		grants[i], runs[i] = grantOf(results[j])
	}
	return runs, rest
}

// sendAndWait carries out requests on a connection of their own and waits
// until enough replicas have what was done.
func (c *Client) sendAndWait(ctx context.Context, requests []lease.Request, grants []lease.Grant) {
	patience := 500 * time.Millisecond
	if deadline, bounded := ctx.Deadline(); bounded {
		patience = max(time.Millisecond, time.Until(deadline)*9/10)
	}
	connection, release := c.rueidis.Dedicate()
	defer release()
	// The command may be sent twice, where the server did not know the script.
	wait := connection.B().Wait().Numreplicas(c.replicas).Timeout(patience.Milliseconds()).Build().Pin()
	runs, rest := c.send(ctx, connection, requests, grants, wait)
	have, err := rest[0].AsInt64()
	if err == nil && have < c.replicas {
		err = fmt.Errorf("expected %d replicas to have a grant, %d have it", c.replicas, have)
	}
	if err != nil {
		for i := range grants {
			if grants[i].Err == nil {
				grants[i] = lease.Grant{Err: fmt.Errorf("redis: waiting for replicas: %w", err)}
			}
		}
	}
	c.accept(ctx, runs, grants)
}

// accept withholds grants of servers whose settings do not do.
func (c *Client) accept(ctx context.Context, runs []string, grants []lease.Grant) {
	for i := range grants {
		if grants[i].Err != nil {
			continue
		}
		if err := c.acceptRun(ctx, runs[i]); err != nil {
			grants[i] = lease.Grant{Err: err}
		}
	}
}

var errAnswer = errors.New("redis: an answer that is not one of the script's")

// grantOf reads what the script answered, and the run of its server.
func grantOf(result rueidis.RedisResult) (lease.Grant, string) {
	values, err := result.ToArray()
	if err != nil {
		return lease.Grant{Err: fmt.Errorf("redis: %w", err)}, ""
	}
	if len(values) != 7 {
		return lease.Grant{Err: errAnswer}, ""
	}
	var numbers [6]int64
	for i := range numbers {
		if numbers[i], err = values[i].AsInt64(); err != nil || numbers[i] < 0 {
			return lease.Grant{Err: errAnswer}, ""
		}
	}
	run, err := values[6].ToString()
	if err != nil {
		return lease.Grant{Err: errAnswer}, ""
	}
	return lease.Grant{
		Tokens: uint32(numbers[0]), Left: uint32(numbers[1]), Reset: time.Duration(numbers[2]) * time.Millisecond,
		Total: uint64(numbers[3]), Time: numbers[4], Charged: uint32(numbers[5]),
	}, run
}

func isNoScript(err error) bool {
	return err != nil && strings.Contains(err.Error(), "NOSCRIPT")
}

// Replicas implements [lease.Engine].
func (c *Client) Replicas(ctx context.Context, replica uint64) (int, error) {
	keys := []string{c.prefix + ":replicas"}
	args := []string{strconv.FormatUint(replica, 36), strconv.FormatInt(lease.ReplicaLife.Milliseconds(), 10)}
	s := newScript(replicasSource)
	n, err := c.rueidis.Do(ctx, c.call(s, false, keys, args)).AsInt64()
	if err != nil {
		return 0, fmt.Errorf("counting replicas in redis: %w", err)
	}
	return int(n), nil
}
