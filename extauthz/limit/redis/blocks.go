package redis

import (
	"context"
	_ "embed"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/block/shared"
)

var (
	//go:embed failed.lua
	failedSource string
	//go:embed unblock.lua
	unblockSource string
	//go:embed changes.lua
	changesSource string
	//go:embed heard.lua
	heardSource string
)

// changesAtOnce is how many changes are told at once.
const changesAtOnce = 500

// Blocks keeps shared blocks on the same servers as limits. All of it has one
// hash tag, so that one node of a Cluster has it.
type Blocks struct{ client *Client }

var _ shared.Backend = Blocks{}

// Blocks returns the backend of shared blocks. It needs no closing.
func (c *Client) Blocks() Blocks { return Blocks{c} }

func (b Blocks) name() string { return b.client.prefix + ":{blocks}:" }

func (b Blocks) keys(address string) []string {
	name := b.name()
	return []string{name + "address:" + address, name + "changes", name + "closing", name + "number", name + "heard", name + "there"}
}

// Failed implements [shared.Backend].
func (b Blocks) Failed(ctx context.Context, failures []shared.Failure, answers []block.Remote) error {
	s := newScript(failedSource)
	args := func(f *shared.Failure) []string {
		return []string{f.Prefix.String(), f.Reason.String(), strconv.FormatUint(uint64(f.Threshold), 10), strconv.FormatInt(f.Window.Milliseconds(), 10), b.name()}
	}
	// The first may find that the server does not know the script.
	values, err := b.run(ctx, s, b.keys(failures[0].Prefix.String()), args(&failures[0]))
	if err == nil {
		answers[0], err = remote(failures[0].Prefix, values)
	}
	if err != nil {
		return fmt.Errorf("counting failures in redis: %w", err)
	}
	if len(failures) == 1 {
		return nil
	}
	commands := make([]rueidis.Completed, 0, len(failures)-1)
	for i := range failures[1:] {
		f := &failures[i+1]
		commands = append(commands, b.client.call(s, true, b.keys(f.Prefix.String()), args(f)))
	}
	for i, result := range b.client.rueidis.DoMulti(ctx, commands...) {
		values, err := result.ToArray()
		if err == nil {
			answers[i+1], err = remote(failures[i+1].Prefix, values)
		}
		if err != nil {
			return fmt.Errorf("counting failures in redis: %w", err)
		}
	}
	return nil
}

// Unblock implements [shared.Backend].
func (b Blocks) Unblock(ctx context.Context, prefix netip.Prefix) (bool, error) {
	args := []string{prefix.String(), strconv.FormatInt((24 * time.Hour).Milliseconds(), 10), b.name()}
	was, err := b.client.rueidis.Do(ctx, b.client.call(newScript(unblockSource), false, b.keys(prefix.String()), args)).AsInt64()
	if err != nil {
		return false, fmt.Errorf("unblocking in redis: %w", err)
	}
	return was == 1, nil
}

// Changes implements [shared.Backend].
func (b Blocks) Changes(ctx context.Context, replica, after uint64) (shared.Changes, error) {
	var changes shared.Changes
	values, err := b.run(ctx, newScript(changesSource), b.keys(""), []string{strconv.FormatUint(after, 10), strconv.Itoa(changesAtOnce), strconv.FormatUint(replica, 10)})
	if err != nil {
		return changes, fmt.Errorf("reading changes of blocks from redis: %w", err)
	}
	if len(values) < 2 {
		return changes, errAnswer
	}
	if changes.Last, err = values[0].AsUint64(); err != nil {
		return changes, errAnswer
	}
	if changes.Number, err = values[1].AsUint64(); err != nil {
		return changes, errAnswer
	}
	for i := range values[2:] {
		row, err := values[i+2].ToArray()
		if err != nil || len(row) == 0 {
			return changes, errAnswer
		}
		name, _ := row[0].ToString()
		prefix, err := netip.ParsePrefix(name)
		if err != nil {
			return changes, fmt.Errorf("reading changes of blocks from redis: %w", err)
		}
		if len(row) == 1 {
			changes.Unblocked = append(changes.Unblocked, prefix)
			continue
		}
		r, err := remote(prefix, row[1:])
		if err != nil {
			return changes, err
		}
		changes.Blocked = append(changes.Blocked, r)
	}
	return changes, nil
}

// Heard implements [shared.Backend].
func (b Blocks) Heard(ctx context.Context) (all, last uint64, err error) {
	keys := b.keys("")[3:]
	values, err := b.run(ctx, newScript(heardSource), keys, []string{strconv.FormatInt(shared.ReplicaLife.Milliseconds(), 10)})
	if err != nil {
		return 0, 0, fmt.Errorf("asking redis who knows of blocks: %w", err)
	}
	if len(values) != 2 {
		return 0, 0, errAnswer
	}
	all, err1 := values[0].AsUint64()
	last, err2 := values[1].AsUint64()
	if err1 != nil || err2 != nil {
		return 0, 0, errAnswer
	}
	return all, last, nil
}

// Listen implements [shared.Backend].
func (b Blocks) Listen(ctx context.Context, changed func()) error {
	r := b.client.rueidis
	err := r.Receive(ctx, r.B().Subscribe().Channel(b.name()).Build(), func(rueidis.PubSubMessage) { changed() })
	if err != nil {
		return fmt.Errorf("listening for blocks in redis: %w", err)
	}
	return nil
}

// run calls a script, which the server may have to be shown.
func (b Blocks) run(ctx context.Context, s script, keys, args []string) ([]rueidis.RedisMessage, error) {
	c := b.client
	values, err := c.rueidis.Do(ctx, c.call(s, true, keys, args)).ToArray()
	if isNoScript(err) {
		values, err = c.rueidis.Do(ctx, c.call(s, false, keys, args)).ToArray()
	}
	return values, err
}

// remote reads what the scripts tell of an address: the age of its window, its
// failures, how long ago it was blocked, and the last reason.
func remote(prefix netip.Prefix, values []rueidis.RedisMessage) (block.Remote, error) {
	if len(values) != 4 {
		return block.Remote{}, errAnswer
	}
	var numbers [3]int64
	for i := range numbers {
		var err error
		if numbers[i], err = values[i].AsInt64(); err != nil {
			return block.Remote{}, errAnswer
		}
	}
	name, err := values[3].ToString()
	if err != nil || numbers[0] < 0 || numbers[1] < 0 {
		return block.Remote{}, errAnswer
	}
	r := block.Remote{
		Prefix: prefix, Age: time.Duration(numbers[0]) * time.Millisecond, Failures: uint32(min(numbers[1], math.MaxUint32)), //nolint:gosec // checked
		Blocked: numbers[2] >= 0, BlockedAgo: max(0, time.Duration(numbers[2])*time.Millisecond),
	}
	// A reason of another version is no reason to lose the block.
	for _, reason := range apikey.Reasons() {
		if reason.String() == name {
			r.Reason = reason
		}
	}
	return r, nil
}
