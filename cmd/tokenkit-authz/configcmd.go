package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tokenkithq/authz/telemetry"
)

func newConfig(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and show the settings of serve",
		Long: `Check and show the settings that serve would run with. They are read as serve reads
them: from flags, the environment, the file that --config names, and defaults.`,
	}
	cmd.AddCommand(newConfigCheck(std), newConfigShow(std), newConfigSchema(std))
	return cmd
}

func newConfigCheck(std streams) *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:     "check",
		Short:   "Report the first setting that serve would refuse",
		Example: "  tokenkit-authz config check --config tokenkit.yaml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := s.check(); err != nil {
				return err
			}
			fmt.Fprintln(std.out, "the settings are good")
			return nil
		},
	}
	s.serveFlags(cmd.Flags())
	return cmd
}

// check reports the first setting that serve would refuse, as far as that can
// be told without opening anything.
func (s *settings) check() error {
	logger, err := s.logger(streams{err: io.Discard})
	if err != nil {
		return err
	}
	for _, listen := range []struct{ name, address string }{{"grpc_listen", s.grpcListen}, {"admin_listen", s.adminListen}, {"metrics_listen", s.metricsListen}} {
		if listen.address == "" {
			continue
		}
		_, port, err := net.SplitHostPort(listen.address)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return fmt.Errorf("%s %q: expected an address and a port such as 127.0.0.1:9001", listen.name, listen.address)
		}
	}
	if err := firstTooSmall(
		bounded{"log_denials", s.logDenials >= 0}, bounded{"drain", s.drain >= 0}, bounded{"stop_deadline", s.stopDeadline > 0},
		bounded{"session_ttl", s.sessionTTL > 0}, bounded{"session_idle", s.sessionIdle > 0}, bounded{"cache_keys", s.cacheKeys > 0}, bounded{"cache_missing", s.cacheMissing > 0},
		bounded{"decision_log_one_in", s.decisionLogOneIn > 0},
	); err != nil {
		return err
	}
	if err := s.transport.check(s.adminListen); err != nil {
		return err
	}
	if s.otlpEndpoint != "" {
		if err := telemetry.CheckEndpoint(s.otlpEndpoint); err != nil {
			return fmt.Errorf("otlp_endpoint: %w", err)
		}
	}
	return s.checkServers(logger)
}

// bounded is a setting that has a least value, and whether it has as much.
type bounded struct {
	name   string
	enough bool
}

// firstTooSmall reports the first setting that is less than it may be.
func firstTooSmall(settings ...bounded) error {
	for _, setting := range settings {
		if !setting.enough {
			return fmt.Errorf("%s: expected more than nothing", setting.name)
		}
	}
	return nil
}

func (s *settings) checkServers(logger *slog.Logger) error {
	if err := s.store.check(); err != nil {
		return err
	}
	if err := s.limits.check(); err != nil {
		return err
	}
	if _, err := s.neverBlocked(); err != nil {
		return err
	}
	if _, err := s.uncounted(); err != nil {
		return err
	}
	options, err := s.serverOptions(logger)
	if err != nil {
		return err
	}
	return errors.Join(options.Validate(), s.adminOptions().Validate())
}

func newConfigShow(std streams) *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show each setting and where it came from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
			eachSetting(cmd.Flags(), func(f *pflag.Flag) {
				from := "default"
				if f.Changed {
					from = "command line"
				}
				if where := f.Annotations[sourceAnnotation]; where != nil {
					from = where[0]
				}
				fmt.Fprintf(out, "%s\t%s\t%s\n", settingName(f.Name), f.Value, from)
			})
			return out.Flush()
		},
	}
	s.serveFlags(cmd.Flags())
	return cmd
}

func newConfigSchema(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the config file, for editors",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return printJSON(std.out, configSchema())
		},
	}
}

// eachSetting calls fn with the settings that a config file may hold.
func eachSetting(flags *pflag.FlagSet, fn func(*pflag.Flag)) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != configFlag && f.Name != "help" {
			fn(f)
		}
	})
}

// schema is the part of JSON Schema (2020-12) that a config file needs.
type schema struct {
	Schema      string            `json:"$schema,omitempty"`
	Title       string            `json:"title,omitempty"`
	Description string            `json:"description,omitempty"`
	Type        any               `json:"type"`
	Pattern     string            `json:"pattern,omitempty"`
	Minimum     *int              `json:"minimum,omitempty"`
	Items       *schema           `json:"items,omitempty"`
	Default     any               `json:"default,omitempty"`
	Properties  map[string]schema `json:"properties,omitempty"`
	Additional  *bool             `json:"additionalProperties,omitempty"`
}

// configSchema describes the config file, from the flags of serve.
func configSchema() schema {
	closed := false
	all := schema{
		Schema: "https://json-schema.org/draft/2020-12/schema", Title: "Settings of tokenkit-authz serve", Type: "object",
		Properties: map[string]schema{}, Additional: &closed,
	}
	var s settings
	eachSetting(s.defaults(), func(f *pflag.Flag) {
		property := schemaOf(f)
		property.Description = f.Usage
		all.Properties[settingName(f.Name)] = property
	})
	return all
}

func schemaOf(f *pflag.Flag) schema {
	switch f.Value.Type() {
	case "bool":
		return schema{Type: "boolean", Default: f.DefValue == "true"}
	case "int", "uint32", "int64", "uint":
		n, err := strconv.Atoi(f.DefValue)
		if err != nil {
			break
		}
		zero := 0
		return schema{Type: "integer", Minimum: &zero, Default: n}
	case "float64":
		x, err := strconv.ParseFloat(f.DefValue, 64)
		if err != nil {
			break
		}
		return schema{Type: "number", Default: x}
	case "duration":
		return schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`, Default: f.DefValue}
	case "stringSlice":
		list := schema{Type: "array", Items: &schema{Type: "string"}, Default: []string{}}
		if text := strings.Trim(f.DefValue, "[]"); text != "" {
			list.Default = strings.Split(text, ",")
		}
		return list
	}
	return schema{Type: "string", Default: f.DefValue}
}
