package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/envoy"
)

func newEnvoy(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "envoy",
		Short: "Render configuration for Envoy, Istio and Envoy Gateway",
		Long: `Render configuration for Envoy, Istio and Envoy Gateway. Whatever is rendered fails closed:
a request that could not be decided is answered with 503.`,
	}
	cmd.AddCommand(newEnvoyConfig(std), newEnvoyFilter(std), newEnvoySecrets(std), newEnvoyIstio(std), newEnvoyGateway(std))
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
  envoy -c envoy.yaml

  # An upstream that serves gRPC, with TLS for clients
  tokenkit-authz envoy config --upstream-protocol http2 --tls-cert /etc/tls/tls.crt --tls-key /etc/tls/tls.key

  # Paths with rules of their own
  tokenkit-authz envoy config --route '/healthz public' --route '/v1/reports scope=reports:read cost=10'`,
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
	f := cmd.Flags()
	listenFlags(f, &o)
	addressFlags(f, &o, addresses{authz: "127.0.0.1:9001", adminAPI: "127.0.0.1:9002", upstream: "127.0.0.1:8080"})
	filterFlags(f, &o)
	f.StringVar(&validate, "validate", "", "an Envoy program that must accept the result")
	return cmd
}

func newEnvoyFilter(std streams) *cobra.Command {
	var o envoy.Options
	cmd := &cobra.Command{
		Use:   "filter",
		Short: "Print what an Envoy that you have needs to ask the service",
		Long: `Print what an Envoy that you have needs to ask the service: settings and filters for its
HTTP connection manager, routes and clusters, each with a comment that says where it goes.`,
		Example: `  tokenkit-authz envoy filter --authz authz.internal:9001`,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return render(std, envoy.RenderFilter, o) },
	}
	addressFlags(cmd.Flags(), &o, addresses{authz: "127.0.0.1:9001", adminAPI: "127.0.0.1:9002"})
	filterFlags(cmd.Flags(), &o)
	return cmd
}

func newEnvoySecrets(std streams) *cobra.Command {
	var o envoy.Options
	var out string
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "Write what makes Envoy read changed certificates anew",
		Long: `Write the files that make Envoy read the PEM files for TLS to the service anew whenever
something is renamed into their folder, as Kubernetes and certificate tools replace them.`,
		Example: `  tokenkit-authz envoy secrets --tls-secrets /etc/envoy/secrets --authz-tls-ca /etc/tls/ca.crt \
    --authz-tls-cert /etc/tls/tls.crt --authz-tls-key /etc/tls/tls.key`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			files, err := envoy.RenderSecrets(o)
			if err != nil {
				return err
			}
			if out == "" {
				out = o.TLSSecrets
			}
			for _, name := range slices.Sorted(maps.Keys(files)) {
				path := filepath.Join(out, name)
				if err := os.WriteFile(path, files[name], 0o644); err != nil { //nolint:gosec // paths only, and Envoy may run as another user
					return fmt.Errorf("writing a secret: %w", err)
				}
				fmt.Fprintln(std.out, path)
			}
			return nil
		},
	}
	f := cmd.Flags()
	addressFlags(f, &o, addresses{authz: "127.0.0.1:9001", adminAPI: "127.0.0.1:9002"})
	f.StringVar(&out, "out", "", "folder to write to, where it is not --tls-secrets")
	return cmd
}

func newEnvoyIstio(std streams) *cobra.Command {
	var o envoy.Options
	var mesh bool
	cmd := &cobra.Command{
		Use:   "istio",
		Short: "Print what Istio needs to ask the service",
		Long: `Print the AuthorizationPolicy that makes a gateway of Istio, or pods of the mesh, ask the
service, or the part of the mesh configuration that it refers to. The service needs
--client-address forwarded:N, N being how many trusted proxies stand before the gateway.`,
		Example: `  tokenkit-authz envoy istio --mesh-config > values.yaml
  helm upgrade istiod istio/istiod --namespace istio-system --reuse-values --values values.yaml
  tokenkit-authz envoy istio --namespace istio-ingress --gateway gateway | kubectl apply -f -

  # A gateway of Istio's own kind
  tokenkit-authz envoy istio --namespace istio-system --workload istio=ingressgateway`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if mesh {
				return render(std, envoy.RenderIstioMesh, o)
			}
			return render(std, envoy.RenderIstio, o)
		},
	}
	f := cmd.Flags()
	addressFlags(f, &o, addresses{authz: envoy.ClusterAuthz})
	kubernetesFlags(f, &o)
	f.StringToStringVar(&o.Kubernetes.Workload, "workload", nil, "labels of the pods that ask, instead of a Gateway")
	f.StringVar(&o.AccessLog, "access-log", "", "with --mesh-config: file to log requests to as JSON, such as /dev/stdout (default: as it is)")
	f.BoolVar(&mesh, "mesh-config", false, "print the part of the mesh configuration instead")
	return cmd
}

func newEnvoyGateway(std streams) *cobra.Command {
	var o envoy.Options
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Print what Envoy Gateway needs to ask the service",
		Long: `Print the resources that make a Gateway of Envoy Gateway ask the service, on every route.
The service needs --client-address forwarded:N, N being how many trusted proxies stand
before the Gateway.`,
		Example: `  tokenkit-authz envoy gateway --namespace default --gateway gateway \
    --upstream api.default.svc.cluster.local:8080 | kubectl apply -f -`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return render(std, envoy.RenderGateway, o) },
	}
	f := cmd.Flags()
	addressFlags(f, &o, addresses{authz: envoy.ClusterAuthz, adminAPI: envoy.ClusterAdminAPI, upstream: envoy.ClusterUpstream})
	kubernetesFlags(f, &o)
	headerFlags(f, &o)
	return cmd
}

func render(std streams, document func(envoy.Options) ([]byte, error), o envoy.Options) error {
	text, err := document(o)
	if err != nil {
		return err
	}
	_, err = std.out.Write(text)
	return err
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
