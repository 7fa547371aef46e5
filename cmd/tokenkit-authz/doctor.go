package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/envoy/doctor"
	"github.com/tokenkithq/authz/extauthz"
)

func newDoctor(std streams) *cobra.Command {
	var s settings
	var envoyFile, envoyAdmin string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Report what is unsafe in an Envoy's configuration and in the data folder",
		Long: `Report what is unsafe or missing in an Envoy's configuration and in the data folder,
with what to write instead. The settings of serve say which headers matter. It changes
nothing, and fails where something lets requests pass that should not.`,
		Example: `  tokenkit-authz doctor --envoy-config envoy.yaml
  tokenkit-authz doctor --envoy-admin http://127.0.0.1:9901`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if envoyFile != "" && envoyAdmin != "" {
				return errors.New("envoy-config, envoy-admin: expected one of them")
			}
			options, err := s.serverOptions(nil)
			if err != nil {
				return err
			}
			findings, err := examineData(s.data)
			if err != nil {
				return err
			}
			text, err := envoyConfiguration(cmd.Context(), envoyFile, envoyAdmin)
			if err != nil {
				return err
			}
			if text != nil {
				found, err := examineEnvoy(text, options)
				if err != nil {
					return err
				}
				findings = append(found, findings...)
			}
			return report(std.out, findings, asJSON)
		},
	}
	s.serveFlags(cmd.Flags())
	cmd.Flags().StringVar(&envoyFile, "envoy-config", "", "Envoy's bootstrap file, or a saved answer of /config_dump; - is standard input")
	cmd.Flags().StringVar(&envoyAdmin, "envoy-admin", "", "base URL of a running Envoy's admin interface, such as http://127.0.0.1:9901")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func examineEnvoy(text []byte, options extauthz.Options) ([]doctor.Finding, error) {
	config, err := doctor.Read(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	identity := options.Identity
	o := doctor.Options{Identity: []string{identity.KeyID, identity.KeyName, identity.Owner, identity.Metadata}}
	if options.Address.Mode == extauthz.AddressHeader {
		o.AddressHeader = options.Address.Header
	}
	return doctor.Examine(config, o), nil
}

// envoyConfiguration returns nil where neither source is given.
func envoyConfiguration(ctx context.Context, path, adminURL string) ([]byte, error) {
	switch {
	case path == "-":
		return io.ReadAll(os.Stdin)
	case path != "":
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("envoy-config: %w", err)
		}
		return text, nil
	case adminURL == "":
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(adminURL, "/")+"/config_dump", nil)
	if err != nil {
		return nil, fmt.Errorf("envoy-admin: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("envoy-admin: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("envoy-admin: expected status 200 of %s, got %s", request.URL, response.Status)
	}
	return io.ReadAll(response.Body)
}

// report prints findings and fails where one is a danger.
func report(out io.Writer, findings []doctor.Finding, asJSON bool) error {
	counts := map[doctor.Severity]int{}
	type line struct {
		Severity string `json:"severity"`
		Code     string `json:"code"`
		Where    string `json:"where"`
		What     string `json:"what"`
		Fix      string `json:"fix"`
	}
	lines := make([]line, 0, len(findings))
	for _, f := range findings {
		counts[f.Severity]++
		lines = append(lines, line{f.Severity.String(), f.Code, f.Where, f.What, f.Fix})
		if !asJSON {
			fmt.Fprintln(out, f)
		}
	}
	if asJSON {
		if err := printJSON(out, lines); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(out, "danger=%d warning=%d advice=%d\n", counts[doctor.Danger], counts[doctor.Warning], counts[doctor.Advice])
	}
	if counts[doctor.Danger] > 0 {
		return errReported
	}
	return nil
}
