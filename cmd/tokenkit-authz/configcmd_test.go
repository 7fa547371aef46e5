package main

import (
	"encoding/json"
	"testing"

	"github.com/spf13/pflag"
)

// The schema has every setting, with a default that serve itself takes.
func TestConfigSchema(t *testing.T) {
	wire, err := json.Marshal(configSchema())
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Properties map[string]struct {
			Type    string `json:"type"`
			Default any    `json:"default"`
		} `json:"properties"`
		Additional *bool `json:"additionalProperties"`
	}
	if err := json.Unmarshal(wire, &read); err != nil {
		t.Fatal(err)
	}
	var s settings
	n := 0
	eachSetting(s.defaults(), func(f *pflag.Flag) {
		n++
		property, found := read.Properties[settingName(f.Name)]
		if !found || property.Type == "" || property.Default == nil {
			t.Errorf("%s: got %+v", f.Name, property)
			return
		}
		if err := setFlag(f, property.Default); err != nil {
			t.Errorf("%s: its default %v is refused: %v", f.Name, property.Default, err)
		}
		if f.Value.Type() == "string" != (property.Type == "string") && f.Value.Type() != "duration" {
			t.Errorf("%s: a %s is described as %s", f.Name, f.Value.Type(), property.Type)
		}
	})
	if n != len(read.Properties) || read.Additional == nil || *read.Additional {
		t.Errorf("%d settings, %d properties, others %v", n, len(read.Properties), read.Additional)
	}
}
