package envoy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// endpoint is where a cluster's requests go: a host and a port, or a socket.
type endpoint struct {
	host   string
	port   uint16
	socket string
	static bool // needs no DNS
}

func parseEndpoint(text string) (endpoint, error) {
	host, portText, err := net.SplitHostPort(text)
	port, portErr := strconv.ParseUint(portText, 10, 16)
	if err != nil || portErr != nil || host == "" || port == 0 {
		return endpoint{}, errors.New("expected a host and a port, such as 127.0.0.1:8080")
	}
	addr, err := netip.ParseAddr(host)
	if err == nil && addr.Zone() != "" {
		return endpoint{}, errors.New("expected an address without a zone")
	}
	return endpoint{host: host, port: uint16(port), static: err == nil}, nil
}

func endpointsOf(targets []string) ([]endpoint, error) {
	if len(targets) == 0 {
		return nil, errors.New("expected at least one address")
	}
	all := make([]endpoint, len(targets))
	for i, target := range targets {
		if socket, ok := strings.CutPrefix(target, "unix:"); ok {
			if !filepath.IsAbs(socket) {
				return nil, fmt.Errorf("%q: expected unix: and an absolute path", target)
			}
			all[i] = endpoint{socket: socket, static: true}
		} else {
			var err error
			if all[i], err = parseEndpoint(target); err != nil {
				return nil, fmt.Errorf("%q: %w", target, err)
			}
		}
		if (all[i].socket == "") != (all[0].socket == "") {
			return nil, errors.New("expected either TCP addresses or Unix sockets")
		}
	}
	return all, nil
}
