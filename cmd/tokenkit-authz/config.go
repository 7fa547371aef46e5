package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

const envPrefix = "TOKENKIT_AUTHZ_"

// configFlag names the file that other settings are read from. It is not
// itself a setting of that file.
const configFlag = "config"

// applyConfig fills the flags that the command line left alone: from the
// environment, else from the config file, else they keep their defaults. A
// setting has one name everywhere: the flag --session-ttl is session_ttl in
// the file and TOKENKIT_AUTHZ_SESSION_TTL in the environment. Settings of serve
// that flags lack are left alone, so that all commands can share one file;
// other names are refused.
func applyConfig(flags *pflag.FlagSet, environ []string) error {
	var all settings
	known := map[string]*pflag.Flag{}
	all.defaults().VisitAll(func(f *pflag.Flag) { known[settingName(f.Name)] = f })
	fromEnv, err := loadEnv(known, environ)
	if err != nil {
		return err
	}
	path, err := flags.GetString(configFlag)
	if err != nil {
		return err
	}
	if !flags.Changed(configFlag) && fromEnv.Exists(configFlag) {
		path = fromEnv.String(configFlag)
	}
	fromFile, err := loadFile(known, path)
	if err != nil {
		return err
	}
	for _, source := range []struct {
		values *koanf.Koanf
		where  string
		name   func(string) string
	}{
		{fromEnv, "environment", func(name string) string { return envPrefix + strings.ToUpper(name) }},
		{fromFile, "config file " + path, func(name string) string { return name }},
	} {
		for _, name := range source.values.Keys() {
			flag := flags.Lookup(known[name].Name)
			if flag == nil || flag.Changed { // by the command line, or by a source before
				continue
			}
			if err := setFlag(flag, source.values.Get(name)); err != nil {
				return fmt.Errorf("%s: %s: %w", source.where, source.name(name), err)
			}
			flag.Changed = true
			flag.Annotations = map[string][]string{sourceAnnotation: {source.where}}
		}
	}
	return nil
}

// sourceAnnotation names where a flag's value came from, unless that is the
// command line.
const sourceAnnotation = "source"

func settingName(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// serviceLink matches the variables that Kubernetes sets for a Service that is
// called as this program is; they are no settings.
var serviceLink = regexp.MustCompile(`^(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_.*)?)$`)

func loadEnv(known map[string]*pflag.Flag, environ []string) (*koanf.Koanf, error) {
	values := koanf.New(".")
	var unknown []string
	err := values.Load(env.Provider(".", env.Opt{
		Prefix: envPrefix,
		TransformFunc: func(name, value string) (string, any) {
			name = strings.TrimPrefix(name, envPrefix)
			setting := strings.ToLower(name)
			if known[setting] == nil {
				if !serviceLink.MatchString(name) {
					unknown = append(unknown, envPrefix+name)
				}
				return "", nil
			}
			return setting, value
		},
		EnvironFunc: func() []string { return environ },
	}), nil)
	if err != nil {
		return nil, fmt.Errorf("reading the environment: %w", err)
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("environment: %s: expected the name of a setting, one of %s", unknown[0], names(known))
	}
	return values, nil
}

func loadFile(known map[string]*pflag.Flag, path string) (*koanf.Koanf, error) {
	// No delimiter that a name could contain: settings are not nested.
	values := koanf.New("\x00")
	if path == "" {
		return values, nil
	}
	if err := values.Load(file.Provider(path), yaml.Parser()); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("config file %s does not exist", path)
		}
		return nil, fmt.Errorf("config file %s: %w", path, err)
	}
	for _, name := range values.Keys() {
		if known[name] == nil || name == configFlag {
			name, _, _ = strings.Cut(name, "\x00")
			return nil, fmt.Errorf("config file %s: %s: expected the name of a setting, one of %s", path, name, names(known))
		}
	}
	return values, nil
}

func names(known map[string]*pflag.Flag) string {
	return strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}

// setFlag sets a flag as its own parser reads it, so that a wrong type is
// refused wherever it stands.
func setFlag(flag *pflag.Flag, value any) error {
	list, isList := flag.Value.(pflag.SliceValue)
	switch v := value.(type) {
	case nil:
		return errors.New("expected a value, got none")
	case []any:
		if !isList {
			return fmt.Errorf("expected one %s, got a list", flag.Value.Type())
		}
		texts := make([]string, len(v))
		for i, entry := range v {
			switch entry.(type) {
			case string, int, bool, float64:
				texts[i] = fmt.Sprint(entry)
			default:
				return fmt.Errorf("[%d]: expected text", i)
			}
		}
		return list.Replace(texts)
	case map[string]any:
		return fmt.Errorf("expected a %s, got a mapping", flag.Value.Type())
	default:
		if err := flag.Value.Set(fmt.Sprint(v)); err != nil {
			return fmt.Errorf("expected a %s: %w", flag.Value.Type(), err)
		}
		return nil
	}
}
