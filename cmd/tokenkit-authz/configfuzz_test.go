package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	yaml "go.yaml.in/yaml/v3"
)

// readSettings reads a config file and an environment as the program does.
func readSettings(path string, environ []string) (map[string]string, *pflag.FlagSet, error) {
	var s settings
	flags := s.defaults()
	if err := flags.Set(configFlag, path); err != nil {
		return nil, nil, err
	}
	err := applyConfig(flags, environ)
	texts := flagTexts(flags)
	delete(texts, configFlag)
	return texts, flags, err
}

// written writes settings as a config file.
func written(t *testing.T, flags *pflag.FlagSet) []byte {
	t.Helper()
	values := map[string]any{}
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == configFlag {
			return
		}
		values[settingName(f.Name)] = f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values[settingName(f.Name)] = list.GetSlice()
		}
	})
	text, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Settings that are read name only what exists, are the defaults where neither
// file nor environment says anything, come from the environment where both do,
// and are the same when they are written to a file and read again. What is
// refused is refused with its place.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("session_ttl: 30m\nkey_headers: [api-key, x-key]\nstrict: true\n"), "STRICT=false")
	f.Add([]byte("limit_mode: fast\nblock_never:\n- 10.0.0.0/8\n"), "KEY_QUERY=key")
	f.Add([]byte("strict: maybe\n"), "")
	f.Add([]byte("a:\n  b: 1\n"), "NONE=1")
	f.Add([]byte("cache_keys: 0x10\ndrain: 5\n"), "DRAIN=5s")
	f.Add([]byte("data: null\nlog_level: ~\n"), "KEY_HEADERS=a,b")
	f.Add([]byte("key_headers: 'a,\"b\"\"\"'\n"), "SERVICE_HOST=10.0.0.1")
	f.Add([]byte("strict: !!bool yes\ndata: &a [*a]\n"), "")
	defaults, _, err := readSettings("", nil)
	if err != nil {
		f.Fatal(err)
	}
	path, copied := filepath.Join(f.TempDir(), "config.yaml"), filepath.Join(f.TempDir(), "copy.yaml")
	f.Fuzz(func(t *testing.T, file []byte, variable string) {
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		var environ []string
		envName, envValue, hasEnv := strings.Cut(variable, "=")
		if hasEnv {
			environ = []string{envPrefix + variable}
		}
		envFlag := strings.ReplaceAll(strings.ToLower(envName), "_", "-")
		if hasEnv && envFlag == configFlag { // it would read another file
			return
		}
		got, flags, err := readSettings(path, environ)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "environment: ") && !strings.HasPrefix(err.Error(), "config file "+path+": ") {
				t.Fatalf("%q and %q: an error without a place: %v", file, variable, err)
			}
			return
		}
		var plain map[string]any
		if err := yaml.Unmarshal(file, &plain); err != nil {
			t.Fatalf("%q was read, and is no YAML: %v", file, err)
		}
		mentioned := map[string]bool{envFlag: hasEnv}
		for name := range plain {
			flag := strings.ReplaceAll(name, "_", "-")
			if _, exists := defaults[flag]; !exists || settingName(flag) != name {
				t.Fatalf("%q was read with the unknown name %q", file, name)
			}
			mentioned[flag] = true
		}
		for _, flag := range slices.Sorted(maps.Keys(got)) {
			if !mentioned[flag] && got[flag] != defaults[flag] {
				t.Fatalf("%q and %q: %s became %q", file, variable, flag, got[flag])
			}
		}
		if target := flags.Lookup(envFlag); hasEnv && target != nil && target.Value.Type() == "string" && got[envFlag] != envValue {
			t.Fatalf("%q and %q: %s became %q", file, variable, envFlag, got[envFlag])
		}

		text := written(t, flags)
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			t.Fatal(err)
		}
		again, _, err := readSettings(copied, nil)
		if err != nil {
			t.Fatalf("%q and %q, written as %q: %v", file, variable, text, err)
		}
		if !maps.Equal(again, got) {
			for flag := range got {
				if got[flag] != again[flag] {
					t.Errorf("%q and %q: %s is %q, and %q when it is read again", file, variable, flag, got[flag], again[flag])
				}
			}
		}
	})
}
