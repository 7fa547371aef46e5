package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// The names by which systemd passes sockets on (FileDescriptorName= of a
// socket unit).
const (
	systemdCheck   = "grpc"    // for Check calls, TCP or Unix
	systemdAdmin   = "admin"   // for the admin API
	systemdMetrics = "metrics" // for Prometheus
)

// inherited returns the sockets that systemd has opened for the service, which
// take the place of those that it would open itself. There are none where
// systemd has not started it, or has opened none.
func inherited() (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
			l = listeners{}
		}
	}()
	passed, err := activation.ListenersWithNames()
	if err != nil {
		return l, fmt.Errorf("taking over sockets of systemd: %w", err)
	}
	var wrong []error
	for name, sockets := range passed {
		for _, socket := range sockets {
			if err := l.adopt(name, socket); err != nil {
				wrong = append(wrong, fmt.Errorf("socket %q of systemd, %s: %w", name, socket.Addr(), err), socket.Close())
			}
		}
	}
	return l, errors.Join(wrong...)
}

// adopt puts a socket in the place that its name says.
func (l *listeners) adopt(name string, socket net.Listener) error {
	var place *net.Listener
	switch {
	case name == systemdCheck && socket.Addr().Network() == "unix":
		place = &l.grpcSocket
	case name == systemdCheck:
		place = &l.grpc
	case name == systemdAdmin:
		place = &l.admin
	case name == systemdMetrics:
		place = &l.metrics
	default:
		return fmt.Errorf("expected FileDescriptorName=%s, %s or %s", systemdCheck, systemdAdmin, systemdMetrics)
	}
	if name != systemdCheck && socket.Addr().Network() != "tcp" {
		return errors.New("expected a TCP socket")
	}
	if *place != nil {
		return errors.New("expected one of its kind")
	}
	*place = socket
	return nil
}

// notify tells systemd what the service is doing (Type=notify); elsewhere it
// does nothing.
func notify(logger *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		logger.Warn("telling systemd failed", "error", err)
	}
}
