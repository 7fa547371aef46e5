package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
)

// keyFields are the flags that describe a key.
type keyFields struct {
	name, notes, expires         string
	origins, ips, scopes, values []string
	limit                        int64
	strict                       bool
}

func (k *keyFields) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&k.origins, "origin", nil, "origin that requests may name; may be repeated")
	f.StringSliceVar(&k.ips, "ip", nil, "address or CIDR prefix that requests without an origin may come from; may be repeated")
	f.Int64Var(&k.limit, "rate-limit", 0, "calls that any 60 minutes may allow (default: the server's)")
	f.BoolVar(&k.strict, "strict", false, "make both lists hold for every request")
	f.StringVar(&k.expires, "expires", "", "when the key ends: a date, a time (RFC 3339), or a time from now such as 90d or 12h")
	f.StringVar(&k.notes, "notes", "", "what to remember about the key")
	f.StringArrayVar(&k.scopes, "scope", nil, `what the key may be used for: "/v1/", "GET,HEAD /v1/" or a name; may be repeated`)
	f.StringArrayVar(&k.values, "metadata", nil, "NAME=VALUE for the services behind Envoy; may be repeated")
}

// expiry reads --expires.
func (k *keyFields) expiry(now time.Time) (time.Time, error) {
	if days, found := strings.CutSuffix(k.expires, "d"); found {
		if n, err := strconv.Atoi(days); err == nil {
			return now.AddDate(0, 0, n).UTC().Truncate(time.Second), nil
		}
	}
	if d, err := time.ParseDuration(k.expires); err == nil {
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, k.expires); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("expires %q: expected 2030-01-31, 2030-01-31T12:00:00Z, 90d or 12h", k.expires)
}

func (k *keyFields) metadata() (admin.Metadata, error) {
	if len(k.values) == 0 {
		return nil, nil
	}
	metadata := admin.Metadata{}
	for _, text := range k.values {
		name, value, found := strings.Cut(text, "=")
		if !found {
			return nil, fmt.Errorf("metadata %q: expected NAME=VALUE", text)
		}
		metadata[name] = value
	}
	return metadata, nil
}

// newKey returns what to make of the flags that were given.
func (k *keyFields) newKey(name string, f *pflag.FlagSet) (admin.NewKey, error) {
	key := admin.NewKey{Name: name, AllowedOrigins: k.origins, AllowedIPs: k.ips, Strict: k.strict, Notes: k.notes, Scopes: k.scopes}
	if f.Changed("rate-limit") {
		key.RateLimitPerHour = &k.limit
	}
	if f.Changed("expires") {
		at, err := k.expiry(time.Now())
		if err != nil {
			return key, err
		}
		key.ExpiresAt = &at
	}
	var err error
	key.Metadata, err = k.metadata()
	return key, err
}

// clearable are the fields that --clear takes: the flags that set them, and
// what clears them.
var clearable = map[string]struct {
	flag  string
	clear func(*admin.KeyChange)
}{
	"origins":    {"origin", func(c *admin.KeyChange) { c.AllowedOrigins = admin.Null[[]string]() }},
	"ips":        {"ip", func(c *admin.KeyChange) { c.AllowedIPs = admin.Null[[]string]() }},
	"rate-limit": {"rate-limit", func(c *admin.KeyChange) { c.RateLimitPerHour = admin.Null[int64]() }},
	"expires":    {"expires", func(c *admin.KeyChange) { c.ExpiresAt = admin.Null[time.Time]() }},
	"notes":      {"notes", func(c *admin.KeyChange) { c.Notes = admin.Null[string]() }},
	"scopes":     {"scope", func(c *admin.KeyChange) { c.Scopes = admin.Null[[]string]() }},
	"metadata":   {"metadata", func(c *admin.KeyChange) { c.Metadata = admin.Null[admin.Metadata]() }},
}

func clearableText() string { return strings.Join(slices.Sorted(maps.Keys(clearable)), ", ") }

// change returns what the flags that were given change.
func (k *keyFields) change(f *pflag.FlagSet, cleared []string) (c admin.KeyChange, err error) {
	for _, name := range cleared {
		field, known := clearable[name]
		if !known {
			return c, fmt.Errorf("clear %q: expected one of %s", name, clearableText())
		}
		if f.Changed(field.flag) {
			return c, fmt.Errorf("clear %q: expected no --%s together with it", name, field.flag)
		}
		field.clear(&c)
	}
	given := false
	f.Visit(func(flag *pflag.Flag) {
		switch flag.Name {
		case "name":
			c.Name = admin.Some(k.name)
		case "origin":
			c.AllowedOrigins = admin.Some(k.origins)
		case "ip":
			c.AllowedIPs = admin.Some(k.ips)
		case "rate-limit":
			c.RateLimitPerHour = admin.Some(k.limit)
		case "strict":
			c.Strict = admin.Some(k.strict)
		case "notes":
			c.Notes = admin.Some(k.notes)
		case "scope":
			c.Scopes = admin.Some(k.scopes)
		case "expires":
			at, failed := k.expiry(time.Now())
			c.ExpiresAt, err = admin.Some(at), errors.Join(err, failed)
		case "metadata":
			metadata, failed := k.metadata()
			c.Metadata, err = admin.Some(metadata), errors.Join(err, failed)
		default:
			return
		}
		given = true
	})
	if err == nil && !given && len(cleared) == 0 {
		err = errors.New("expected at least one field to change, see --help")
	}
	return c, err
}

func parseKeyID(text string) (apikey.KeyID, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id <= 0 {
		return 0, fmt.Errorf("key id %q: expected a positive integer, as `key list` shows", text)
	}
	return apikey.KeyID(id), nil
}

// keyCommand is an operator command about one key, its first argument.
func keyCommand(std streams, cmd *cobra.Command, run func(o *operatorCommand, cmd *cobra.Command, id apikey.KeyID, client *admin.OperatorClient) error) *cobra.Command {
	o := &operatorCommand{out: std.out}
	cmd.Args = cobra.ExactArgs(1)
	return o.add(cmd, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		id, err := parseKeyID(args[0])
		if err != nil {
			return err
		}
		return run(o, cmd, id, client)
	})
}

func newKeyShow(std streams) *cobra.Command {
	return keyCommand(std, &cobra.Command{Use: "show ID", Short: "Show a key and the state of its limit"},
		func(o *operatorCommand, cmd *cobra.Command, id apikey.KeyID, client *admin.OperatorClient) error {
			key, err := client.Key(cmd.Context(), id)
			if err != nil {
				return err
			}
			limit, err := client.Limit(cmd.Context(), id)
			if err != nil {
				return err
			}
			shown := struct {
				admin.Key
				Limit admin.LimitInfo `json:"limit"`
			}{key, limit}
			return o.print(shown, func(w io.Writer) { printKey(w, &key, &limit) })
		})
}

func printKey(w io.Writer, k *admin.Key, limit *admin.LimitInfo) {
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, strings.ReplaceAll(value, "\n", "\n\t"))
		}
	}
	row("id", strconv.FormatInt(int64(k.ID), 10))
	row("name", k.Name)
	row("key", k.Hint)
	row("owner", k.Owner)
	row("state", k.State)
	row("origins", orAny(k.AllowedOrigins))
	row("ips", orAny(k.AllowedIPs))
	row("strict", strconv.FormatBool(k.Strict))
	row("scopes", orAny(k.Scopes))
	if limit != nil && limit.Limit != nil {
		row("limit", fmt.Sprintf("%d an hour, %d used, %d left", *limit.Limit, *limit.Used, *limit.Remaining))
	} else {
		row("limit", "none")
	}
	names := make([]string, 0, len(k.Metadata))
	for name, value := range k.Metadata {
		names = append(names, name+"="+value)
	}
	slices.Sort(names)
	row("metadata", strings.Join(names, ", "))
	row("notes", k.Notes)
	row("created", k.CreatedAt.Format(time.RFC3339))
	row("last used", timeOr(k.LastUsedAt, "never"))
	row("expires", timeOr(k.ExpiresAt, "never"))
	if k.PreviousExpiresAt != nil {
		row("previous", k.PreviousHint+" until "+k.PreviousExpiresAt.Format(time.RFC3339))
	}
	for _, warning := range k.Warnings {
		row("warning", warning.Message)
	}
}

func timeOr(at *time.Time, absent string) string {
	if at == nil {
		return absent
	}
	return at.Format(time.RFC3339)
}

func newKeyUpdate(std streams) *cobra.Command {
	var fields keyFields
	var cleared []string
	cmd := keyCommand(std, &cobra.Command{
		Use:   "update ID",
		Short: "Change a key; what no flag names stays as it is",
		Example: `  tokenkit-authz key update 7 --rate-limit 10000 --expires 90d
  tokenkit-authz key update 7 --ip 203.0.113.0/24 --clear origins,expires`,
	}, func(o *operatorCommand, cmd *cobra.Command, id apikey.KeyID, client *admin.OperatorClient) error {
		change, err := fields.change(cmd.Flags(), cleared)
		if err != nil {
			return err
		}
		key, err := client.UpdateKey(cmd.Context(), id, change)
		if err != nil {
			return err
		}
		return o.print(key, func(w io.Writer) { printKey(w, &key, nil) })
	})
	fields.flags(cmd.Flags())
	cmd.Flags().StringVar(&fields.name, "name", "", "what people call the key")
	cmd.Flags().StringSliceVar(&cleared, "clear", nil, "fields to empty: "+clearableText())
	return cmd
}

func newKeyEnable(std streams, enabled bool) *cobra.Command {
	use, short, did := "disable ID", "Pause a key; requests with it get 403 until it is enabled", "paused"
	if enabled {
		use, short, did = "enable ID", "End a key's pause", "enabled"
	}
	return keyCommand(std, &cobra.Command{Use: use, Short: short},
		func(o *operatorCommand, cmd *cobra.Command, id apikey.KeyID, client *admin.OperatorClient) error {
			key, err := client.EnableKey(cmd.Context(), id, enabled)
			if err != nil {
				return err
			}
			return o.print(key, func(w io.Writer) { fmt.Fprintf(w, "key %d (%s) %s\n", key.ID, key.Name, did) })
		})
}

func newKeyRotate(std streams) *cobra.Command {
	var grace time.Duration
	cmd := keyCommand(std, &cobra.Command{
		Use:   "rotate ID",
		Short: "Give a key a new value and print it, once",
		Long: `Give a key a new value and print it, once. The value before works for the time of grace
too, and both share one limit. Rotating again ends the older one at once.`,
		Example: "  tokenkit-authz key rotate 7 --grace 1h",
	}, func(o *operatorCommand, cmd *cobra.Command, id apikey.KeyID, client *admin.OperatorClient) error {
		if grace < 0 || grace%time.Second != 0 {
			return fmt.Errorf("grace %s: expected whole seconds, at least 0s", grace)
		}
		rotated, err := client.RotateKey(cmd.Context(), id, grace)
		if err != nil {
			return err
		}
		return o.print(rotated, func(w io.Writer) {
			fmt.Fprintf(w, "id\t%d\nkey\t%s\n\t(shown only now: save it)\n", rotated.ID, rotated.Key)
			fmt.Fprintf(w, "previous\t%s\n", timeOr(rotated.PreviousExpiresAt, "ended"))
		})
	})
	cmd.Flags().DurationVar(&grace, "grace", 24*time.Hour, "how long the value before works too; 0s: not at all")
	return cmd
}
