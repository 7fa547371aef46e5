package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tokenkithq/authz/extauthz"
)

// checkRequest is the request that check asks about.
type checkRequest struct {
	server  string
	header  string
	from    string // header that holds address
	origin  string
	address string
	method  string
	path    string
	asJSON  bool
	tls     bool
	files   clientTLS
}

func newCheck(std streams) *cobra.Command {
	var r checkRequest
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Ask a running service why a request would be allowed or denied",
		Long: `Ask a running service why a request would be allowed or denied. The service decides as
for a real request, but spends, counts and logs nothing.

The key is read from standard input, so that it stays out of the list of processes and
the shell's history; an empty input asks about a request without a key. Exits with 1
where the request would be denied.`,
		Example: `  tokenkit-authz check --origin https://app.example.io < key.txt
  tokenkit-authz check --address 203.0.113.10 < key.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := readSecretLine(cmd.Context(), std.in, std.err, "API key")
			if err != nil {
				return err
			}
			return r.run(cmd.Context(), std.out, key)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.server, "server", "127.0.0.1:9001", "the service's Check address, host:port or unix:///path")
	f.StringVar(&r.header, "header", "api-key", "header that carries the key")
	f.StringVar(&r.origin, "origin", "", "the request's Origin header; empty: none")
	f.StringVar(&r.from, "address-header", "x-client-ip", "header that holds the client's address, where the service reads one")
	f.StringVar(&r.address, "address", "127.0.0.1", "the client's address")
	f.StringVar(&r.method, "method", "GET", "the request's method")
	f.StringVar(&r.path, "path", "/", "the request's path")
	f.BoolVar(&r.asJSON, "json", false, "print JSON")
	f.BoolVar(&r.tls, "tls", false, "connect with TLS; --tls-ca and --tls-cert imply it")
	r.files.flags(f, "tls", "the service")
	return cmd
}

// explanation is what check prints.
type explanation struct {
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"`
	Status  int    `json:"status"`
	KeyID   string `json:"key_id,omitempty"`
	KeyName string `json:"key_name,omitempty"`
	Limit   string `json:"rate_limit,omitempty"`
}

func (r *checkRequest) run(ctx context.Context, out io.Writer, key string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	how, err := r.credentials()
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(r.server, grpc.WithTransportCredentials(how))
	if err != nil {
		return fmt.Errorf("server %q: %w", r.server, err)
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	response, err := authv3.NewAuthorizationClient(conn).Check(ctx, r.message(key))
	if err != nil {
		return fmt.Errorf("asking the service at %s: %w", r.server, err)
	}
	e := explain(response)
	if r.asJSON {
		err = json.NewEncoder(out).Encode(e)
	} else {
		err = e.print(out)
	}
	if err == nil && !e.Allowed {
		err = errReported
	}
	return err
}

func (r *checkRequest) credentials() (credentials.TransportCredentials, error) {
	config, err := r.files.config(r.tls || !r.files.none())
	if err != nil {
		return nil, err
	}
	if config == nil {
		return insecure.NewCredentials(), nil
	}
	return credentials.NewTLS(config), nil
}

func (r *checkRequest) message(key string) *authv3.CheckRequest {
	headers := map[string]string{}
	if key != "" {
		headers[strings.ToLower(r.header)] = key
	}
	if r.origin != "" {
		headers["origin"] = r.origin
	}
	// The address stands wherever the service may be told to look for it.
	headers["x-forwarded-for"], headers[strings.ToLower(r.from)] = r.address, r.address
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: r.address},
		}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: r.method, Path: r.path, Headers: headers,
		}},
		ContextExtensions: map[string]string{extauthz.ExplainExtension: "true"},
	}}
}

func explain(response *authv3.CheckResponse) explanation {
	fields := response.GetDynamicMetadata().GetFields()
	e := explanation{
		Allowed: response.GetStatus().GetCode() == 0 && response.GetOkResponse() != nil,
		Status:  200,
		Reason:  fields[extauthz.MetadataReason].GetStringValue(),
		KeyID:   fields[extauthz.MetadataKeyID].GetStringValue(),
		KeyName: fields[extauthz.MetadataKeyName].GetStringValue(),
	}
	headers := response.GetOkResponse().GetResponseHeadersToAdd()
	if denied := response.GetDeniedResponse(); denied != nil {
		e.Status = int(denied.GetStatus().GetCode())
		headers = denied.GetHeaders()
	}
	for _, h := range headers {
		if h.GetHeader().GetKey() == "ratelimit" {
			e.Limit = h.GetHeader().GetValue()
		}
	}
	return e
}

func (e *explanation) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	verdict := "allowed"
	if !e.Allowed {
		verdict = fmt.Sprintf("denied with %d", e.Status)
	}
	fmt.Fprintf(w, "decision\t%s\nreason\t%s\n", verdict, e.Reason)
	if e.KeyID != "" {
		fmt.Fprintf(w, "key\t%s (%s)\n", e.KeyID, e.KeyName)
	}
	if e.Limit != "" {
		fmt.Fprintf(w, "limit\t%s\n", e.Limit)
	}
	return w.Flush()
}
