package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// ErrSettings says that a server is told to forget what must not be forgotten.
var ErrSettings = errors.New("the server's settings do not do for exact limits")

// acceptRun looks at the servers' settings if one of their runs is new.
func (c *Client) acceptRun(ctx context.Context, run string) error {
	if _, known := c.checked.Load(run); known {
		return nil
	}
	if err := c.check(ctx); err != nil {
		return err
	}
	// Where it answers but is no longer found, or not yet, it was replaced.
	if _, known := c.checked.Load(run); !known {
		return fmt.Errorf("redis: the server of run %.8s was replaced", run)
	}
	return nil
}

// check looks at the settings of every server that takes writes.
func (c *Client) check(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	nodes := c.rueidis.Nodes()
	masters := 0
	for address, node := range nodes {
		info, err := section(ctx, node)
		if err != nil {
			if len(nodes) == 1 {
				return fmt.Errorf("looking at redis %s: %w", address, err)
			}
			continue // that one is away; if it is needed, it will be seen
		}
		if info["role"] != "master" {
			continue
		}
		masters++
		if _, known := c.checked.Load(info["run_id"]); known {
			continue
		}
		if err := c.checkServer(ctx, address, node, info); err != nil {
			return err
		}
		c.checked.Store(info["run_id"], true)
	}
	if masters == 0 {
		return errors.New("looking at redis: no server takes writes: expected a master, found replicas only")
	}
	return nil
}

func (c *Client) checkServer(ctx context.Context, address string, node rueidis.Client, info map[string]string) error {
	refuse := func(problem string) error {
		if c.allow {
			c.logger.LogAttrs(ctx, slog.LevelWarn, "redis may forget what keys have spent", slog.String("address", address), slog.String("problem", problem))
			return nil
		}
		return fmt.Errorf("redis %s: %w: %s", address, ErrSettings, problem)
	}
	warn := func(problem string) {
		c.logger.LogAttrs(ctx, slog.LevelWarn, "redis settings", slog.String("address", address), slog.String("problem", problem))
	}
	connected, _ := strconv.ParseInt(info["connected_slaves"], 10, 64)
	if c.replicas > 0 && connected > c.replicas {
		warn(fmt.Sprintf("%d replicas are connected, but only %d must have a grant: a failover to another may forget some", connected, c.replicas))
	}
	if c.replicas > connected {
		warn(fmt.Sprintf("%d replicas must have a grant, but %d are connected: no limit can be spent until they are", c.replicas, connected))
	}
	settings, err := config(ctx, node)
	if err != nil {
		warn("settings cannot be seen: see to it that maxmemory-policy is noeviction and, without replicas, appendfsync always: " + err.Error())
		return nil //nolint:nilerr // hosted servers forbid to look
	}
	if settings["maxmemory-policy"] != "noeviction" {
		if err := refuse(fmt.Sprintf("maxmemory-policy: expected noeviction, got %s", settings["maxmemory-policy"])); err != nil {
			return err
		}
	}
	if c.replicas > 0 {
		return nil
	}
	switch {
	case c.failover && connected > 0:
		return refuse(fmt.Sprintf("%d replicas may take over: expected the number of replicas that must have a grant, got 0", connected))
	case settings["appendonly"] != "yes":
		return refuse(fmt.Sprintf("appendonly: expected yes, or replicas that must have a grant, got %s", settings["appendonly"]))
	case settings["appendfsync"] != "always":
		return refuse(fmt.Sprintf("appendfsync: expected always, or replicas that must have a grant, got %s", settings["appendfsync"]))
	case settings["no-appendfsync-on-rewrite"] == "yes":
		return refuse("no-appendfsync-on-rewrite: expected no, got yes")
	}
	return nil
}

// section reads what a server says of itself.
func section(ctx context.Context, node rueidis.Client) (map[string]string, error) {
	fields := map[string]string{}
	for _, name := range []string{"server", "replication"} {
		text, err := node.Do(ctx, node.B().Info().Section(name).Build()).ToString()
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			if field, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
				fields[field] = value
			}
		}
	}
	return fields, nil
}

func config(ctx context.Context, node rueidis.Client) (map[string]string, error) {
	return node.Do(ctx, node.B().ConfigGet().Parameter("maxmemory-policy", "appendonly", "appendfsync", "no-appendfsync-on-rewrite").Build()).AsStrMap()
}
