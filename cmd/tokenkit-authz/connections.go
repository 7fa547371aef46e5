package main

import (
	"log/slog"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"

	"github.com/tokenkithq/authz/internal/connlimit"
	"github.com/tokenkithq/authz/internal/pace"
	"github.com/tokenkithq/authz/telemetry"
)

// connections are the bounds on what clients do to listeners.
type connections struct {
	logger  *slog.Logger
	streams *pace.Streams // of Check calls

	mu        sync.Mutex
	listeners map[string]*connlimit.Listener // by name
}

func newConnections(logger *slog.Logger) *connections {
	return &connections{
		logger: logger, listeners: map[string]*connlimit.Listener{},
		streams: pace.NewStreams(pace.StreamsOptions{Slowed: telling(logger, "a connection is read more slowly: it opens many streams that it does not let be answered")}),
	}
}

// telling returns what logs the address of a connection, once a second at the
// most.
func telling(logger *slog.Logger, message string) func(from net.Addr) {
	return connlimit.OnceASecond(func(from net.Addr) { logger.Warn(message, "from", from.String()) })
}

// bound returns l with a limit on its connections, named by its setting.
func (c *connections) bound(name string, l net.Listener, most int, setting string) net.Listener {
	bounded := connlimit.New(l, connlimit.Options{
		Max: most,
		Refused: func(from net.Addr) {
			c.logger.Warn("a connection was refused: there are too many", setting, most, "from", from.String())
		},
		Slowed: func(from net.Addr) {
			c.logger.Warn("new connections wait: one address opens many", "listener", name, "from", from.String())
		},
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners[name] = bounded
	return bounded
}

// stats are what the metrics say.
func (c *connections) stats() telemetry.ConnectionStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := telemetry.ConnectionStats{Refused: map[string]uint64{}, Slowed: map[string]uint64{}, Unanswered: c.streams.Stats().Slowed}
	for name, l := range c.listeners {
		s := l.Stats()
		all.Refused[name], all.Slowed[name] = s.Refused, s.Slowed
	}
	return all
}

// pacedCredentials bounds how fast streams are opened by who has shown them.
type pacedCredentials struct {
	credentials.TransportCredentials
	streams *pace.Streams
}

func (c pacedCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		return conn, info, err
	}
	return c.streams.Wrap(conn), info, nil
}

func (c pacedCredentials) Clone() credentials.TransportCredentials {
	return pacedCredentials{c.TransportCredentials.Clone(), c.streams}
}
