package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/tokenkithq/authz/admin"
)

func newServe(std streams) *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer Envoy's Check calls and serve the admin API",
		Long: `Answer Envoy's Check calls and serve the admin API, until SIGTERM or SIGINT: then answer
as unhealthy for --drain, end the calls under way and save everything.

SIGHUP reads the settings again. What changed is logged; the settings that docs/settings.md
marks so hold at once, the others after a restart.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := s.logger(std)
			if err != nil {
				return err
			}
			s.out = std.out
			ctx, stop := context.WithCancel(cmd.Context())
			defer stop()
			s.texts, s.reloads = flagTexts(cmd.Flags()), reloads(ctx, cmd.Flags(), logger)
			return serve(ctx, &s, logger)
		},
	}
	s.serveFlags(cmd.Flags())
	return cmd
}

// serve runs the service until ctx is done, and saves everything.
func serve(ctx context.Context, s *settings, logger *slog.Logger) error {
	if err := s.transport.check(s.adminListen); err != nil {
		return err
	}
	passed, err := inherited()
	if err != nil {
		return err
	}
	if passed.metrics != nil && s.metricsListen == "" { // a socket that was opened is to be used
		s.metricsListen = addressOf(passed.metrics)
	}
	if s.governor, err = s.govern(); err != nil {
		passed.close()
		return err
	}
	s.hashes = newHashes(logger)
	v, err := openService(ctx, s, logger)
	if err != nil {
		passed.close()
		return err
	}
	l, err := v.listenBeside(ctx, passed)
	if err != nil {
		return errors.Join(err, v.close(ctx))
	}
	logger.Info("serving", "version", versionText(), "data", s.data, "grpc", addressOf(l.grpc), "grpc_socket", s.grpcSocket, "admin", addressOf(l.admin), "metrics", addressOf(l.metrics))
	if users, err := v.keys.ListUsers(ctx); err == nil && len(users) == 0 {
		logger.Warn("there is no user yet; make one with: tokenkit-authz user add NAME --data " + s.data)
	}
	notify(logger, daemon.SdNotifyReady)
	defer context.AfterFunc(ctx, func() { notify(logger, daemon.SdNotifyStopping) })()
	return v.run(ctx, l)
}

func addressOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// listeners are what the service is reached on; nil where it is not.
type listeners struct {
	grpc, grpcSocket, admin, metrics, control net.Listener
}

func (v *service) listen(ctx context.Context) (listeners, error) {
	return v.listenBeside(ctx, listeners{})
}

// listenBeside opens what is not yet among l, and closes all of l where it
// fails.
func (v *service) listenBeside(ctx context.Context, l listeners) (_ listeners, err error) {
	defer func() {
		if err == nil {
			err = v.settings.transport.guard(l, v.logger)
		}
		if err != nil {
			l.close()
		}
	}()
	var config net.ListenConfig
	for _, tcp := range []struct {
		name, address string
		listener      *net.Listener
	}{
		{"grpc_listen", v.settings.grpcListen, &l.grpc},
		{"admin_listen", v.settings.adminListen, &l.admin},
		{"metrics_listen", v.settings.metricsListen, &l.metrics},
	} {
		if tcp.address == "" || *tcp.listener != nil {
			continue
		}
		if *tcp.listener, err = config.Listen(ctx, "tcp", tcp.address); err != nil {
			return l, fmt.Errorf("%s: %w", tcp.name, err)
		}
	}
	if path := v.settings.grpcSocket; path != "" && l.grpcSocket == nil {
		// The group may connect: Envoy often runs as another user.
		if l.grpcSocket, err = listenUnix(ctx, path, 0o660); err != nil {
			return l, fmt.Errorf("grpc_socket: %w", err)
		}
	}
	if l.grpc == nil && l.grpcSocket == nil {
		return l, errors.New("grpc_listen, grpc_socket: expected at least one of them")
	}
	if l.control, err = listenUnix(ctx, v.settings.controlPath(), 0o600); err != nil {
		return l, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

func (l *listeners) close() {
	for _, listener := range []net.Listener{l.grpc, l.grpcSocket, l.admin, l.metrics, l.control} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}

// listenUnix listens on a socket of this mode. It replaces a socket that
// nobody listens on any more, and nothing else.
func listenUnix(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s exists and is no socket", path)
		}
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("%s is in use by another process", path)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) { // perhaps somebody listens
			return nil, err
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		_ = listener.Close()
		return nil, err
	}
	return listener, nil
}

// run serves until ctx is done or a part fails. Then, in this order: health
// says "not serving" so that Envoy sends new calls elsewhere, calls under way
// end, what is in memory is saved, files are closed.
func (v *service) run(ctx context.Context, l listeners) error {
	// Loops outlive ctx: they save what the last calls changed.
	loopCtx, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	loops, loopCtx := errgroup.WithContext(loopCtx)
	if g := v.settings.governor; g != nil {
		loops.Go(func() error { return g.Run(loopCtx) })
	}
	if p := v.settings.hashes; p != nil {
		loops.Go(func() error { return p.Run(loopCtx) })
	}
	for _, loop := range []func(context.Context) error{v.uses.Run, v.limiter.Run, v.table.Run, v.runUsage, v.runDecisions, v.admin.Run, v.transport.run, v.reload, v.runFresh, v.runShared} {
		loops.Go(func() error { return loop(loopCtx) })
	}
	servers, serverCtx := errgroup.WithContext(ctx)
	for name, listener := range map[string]net.Listener{"grpc": l.grpc, "grpc_socket": l.grpcSocket} {
		if listener != nil {
			listener := v.connections.bound(name, listener, v.settings.transport.grpcMaxConnections, "grpc_max_connections")
			servers.Go(func() error {
				if err := v.grpc.Serve(listener); !errors.Is(err, grpc.ErrServerStopped) { // told to stop before it began
					return err
				}
				return nil
			})
		}
	}
	var https []*http.Server
	for _, served := range []struct {
		name     string
		listener net.Listener
		handler  http.Handler
	}{
		{"admin", l.admin, v.admin.Handler()}, {"control", l.control, v.admin.Operator()}, {"metrics", l.metrics, v.watch.metrics},
	} {
		if served.listener == nil {
			continue
		}
		server := admin.NewServer(served.handler, v.logger)
		if served.listener == l.admin {
			v.encrypt(server, v.transport.admin)
		}
		server.WriteTimeout += v.requestTimeout()
		https = append(https, server)
		listener := v.connections.bound(served.name, served.listener, v.settings.transport.httpMaxConnections, "http_max_connections")
		servers.Go(func() error { return serveHTTP(server, listener) })
	}
	servers.Go(func() error {
		select {
		case <-serverCtx.Done():
		case <-loopCtx.Done(): // a loop failed
		}
		v.stopServers(ctx, https)
		return nil
	})
	serveErr := servers.Wait()
	stopLoops()
	loopErr := loops.Wait()
	err := errors.Join(serveErr, loopErr, v.close(ctx))
	if err == nil {
		v.logger.Info("stopped")
	}
	return err
}

// stopServers ends all servers: gently at first, by force at the deadline.
func (v *service) stopServers(ctx context.Context, https []*http.Server) {
	v.health.Shutdown()
	s := v.current()
	if s.drain > 0 {
		v.logger.Info("stopping", "drain", s.drain)
		time.Sleep(s.drain)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.stopDeadline)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		v.grpc.GracefulStop()
		close(stopped)
	}()
	for _, server := range https {
		if err := server.Shutdown(ctx); err != nil {
			_ = server.Close()
		}
	}
	select {
	case <-stopped:
	case <-ctx.Done():
		v.grpc.Stop()
		<-stopped
	}
}
