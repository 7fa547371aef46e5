package main

import (
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/tokenkithq/authz/internal/tlsfiles/tlsfilestest"
)

// A peer that pings again and again is told to calm down, and is out.
func TestAttackPings(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	framer, conn := openHTTP2(t, s.grpc)
	// One after the other, so that nothing is unread when the connection ends.
	for sent := range 50 {
		if err := framer.WritePing(false, [8]byte{byte(sent)}); err != nil {
			t.Fatalf("ping %d: %v", sent, err)
		}
		for answered := false; !answered; {
			frame, err := framer.ReadFrame()
			if err != nil {
				t.Fatalf("after ping %d: %v", sent, err)
			}
			switch frame := frame.(type) {
			case *http2.PingFrame:
				answered = frame.IsAck()
			case *http2.GoAwayFrame:
				if frame.ErrCode != http2.ErrCodeEnhanceYourCalm {
					t.Errorf("told to go for %v", frame.ErrCode)
				}
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Errorf("the connection is still open: %v", err)
				}
				return
			}
		}
	}
	t.Error("fifty pings were answered")
}

// A client whose authority is no longer trusted is out with the connection it
// has, without a restart.
func TestAttackWithdrawnClient(t *testing.T) {
	ca, next := tlsfilestest.NewAuthority(t), tlsfilestest.NewAuthority(t)
	const identity = "spiffe://cluster.local/ns/tokenkit/sa/authz"
	service, old, renewed := newTLSFolder(t), newTLSFolder(t), newTLSFolder(t)
	service.publish(t, ca, identity, ca.PEM)
	old.publish(t, ca, gatewayID, ca.PEM)
	renewed.publish(t, next, gatewayID, ca.PEM)
	s := startServer(t, filepath.Join(t.TempDir(), "data"), append(service.flags("grpc"), "--grpc-max-connection-age", "1s")...)
	checks := func(folder *tlsFolder) func() codes.Code {
		conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(credentials.NewTLS(folder.client(t))))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return func() codes.Code {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := authv3.NewAuthorizationClient(conn).Check(ctx, &authv3.CheckRequest{})
			return status.Code(err)
		}
	}
	check := checks(old)
	if code := check(); code != codes.OK {
		t.Fatalf("with a trusted authority: %v", code)
	}
	service.publish(t, ca, identity, next.PEM)
	checkNext := checks(renewed)
	eventually(t, "a client of the new authority is let in", func() bool { return checkNext() == codes.OK })
	eventually(t, "the client of the old one is out", func() bool { return check() == codes.Unavailable })
	for range 3 {
		if code := check(); code != codes.Unavailable {
			t.Errorf("then it is answered %v", code)
		}
	}
}
