package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tokenkithq/authz/envoy"
)

func newEnvoy(std streams) *cobra.Command {
	cmd := &cobra.Command{Use: "envoy", Short: "Render Envoy configuration"}
	cmd.AddCommand(newEnvoyConfig(std))
	return cmd
}

func newEnvoyConfig(std streams) *cobra.Command {
	var o envoy.Options
	var validate string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print a bootstrap that puts the service in front of an upstream",
		Long: `Print a bootstrap that puts the service in front of an upstream: preflights are answered
before the key is asked for, identity headers cannot be forged, and what cannot be
decided is answered with 503. The admin API's paths are served by the same listener.`,
		Example: `  tokenkit-authz envoy config --upstream 127.0.0.1:8080 > envoy.yaml
  envoy -c envoy.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := envoy.Render(o)
			if err != nil {
				return err
			}
			if validate != "" {
				if err := envoy.Validate(cmd.Context(), validate, config); err != nil {
					return err
				}
			}
			_, err = std.out.Write(config)
			return err
		},
	}
	envoyFlags(cmd.Flags(), &o)
	cmd.Flags().StringVar(&validate, "validate", "", "an Envoy program that must accept the result")
	return cmd
}

func envoyFlags(f *pflag.FlagSet, o *envoy.Options) {
	f.StringVar(&o.Listen, "listen", "127.0.0.1:10000", "address that clients connect to")
	f.StringVar(&o.EnvoyAdmin, "envoy-admin", "", "loopback address of Envoy's own admin interface (default: none)")
	f.StringSliceVar(&o.Authz, "authz", []string{"127.0.0.1:9001"}, "the service's Check addresses, host:port or unix:/path; may be repeated")
	f.DurationVar(&o.AuthzTimeout, "authz-timeout", 0, "how long one decision may take (default 250ms)")
	f.StringVar(&o.AdminAPI, "admin-api", "127.0.0.1:9002", "address of the admin API")
	f.StringVar(&o.Upstream, "upstream", "127.0.0.1:8080", "address of the API to protect")
	f.DurationVar(&o.UpstreamTimeout, "upstream-timeout", 0, "how long an answer of the upstream may take (default 1m0s)")
	f.StringSliceVar(&o.KeyHeaders, "key-headers", []string{"api-key"}, "headers that may carry a key, as the service is told")
	f.BoolVar(&o.Bearer, "key-bearer", false, "show Authorization to the service, as it is told")
	f.StringVar(&o.ClientAddressHeader, "client-address-header", "x-client-ip", "header that Envoy sets to the client's address")
	f.IntVar(&o.TrustedHops, "trusted-hops", 0, "trusted proxies before this Envoy")
	f.StringVar(&o.Identity.KeyID, "header-key-id", "x-api-key-id", "header with the key's id, as the service is told")
	f.StringVar(&o.Identity.KeyName, "header-key-name", "x-api-key-name", "header with the key's name, as the service is told")
	f.StringVar(&o.Identity.Owner, "header-owner", "x-api-key-owner", "header with the key's owner, as the service is told")
	f.StringSliceVar(&o.Origins, "origin", nil, "web origin whose pages may read answers; may be repeated (default: any)")
	f.StringSliceVar(&o.CORSHeaders, "cors-header", nil, "further request header that pages may send; may be repeated")
	f.BoolVar(&o.EncodeRawHeaders, "encode-raw-headers", false, "send headers to the service as bytes")
	f.StringVar(&o.AccessLog, "access-log", "", "file to log requests to as JSON, such as /dev/stdout (default: none)")
}

// findEnvoy returns the Envoy to use: the one that is named, or one that
// [envoy.Find] finds; empty where there is none and none is named.
func findEnvoy(named string) (string, error) {
	if named != "" {
		if _, err := os.Stat(named); err != nil {
			return "", err
		}
		return named, nil
	}
	path, err := envoy.Find()
	if errors.Is(err, envoy.ErrNoEnvoy) {
		return "", nil
	}
	return path, err
}
