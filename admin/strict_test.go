package admin

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// What the decoder admits is valid JSON that encoding/json reads into the
// type without an error and without loss; what it refuses names a place under
// the body.
func FuzzAdminJSON(f *testing.F) {
	for _, seed := range []string{
		`{"name":"x","allowed_origins":["https://app.example.io"],"rate_limit_per_hour":5000}`, `{"name":"x","domain":"example.io","strict":true}`,
		`{"name":"x","name":"y"}`, `{"NAME":"x"}`, `{"name":"\ud800"}`, `[[[[[[[[[]]]]]]]]]`, `{"name":"x","rate_limit_per_hour":1e5}`,
		`{"name":"x"} `, `{"name":"x"}1`, `{"":1}`, `null`, ``, "\xff", `{"name":"x","rate_limit_per_hour":null}`, `{"a":{"b":[{"c":1,"c":2}]}}`,
		`{"name":"x","rate_limit_per_hour":-0}`, `{"name":"x","allowed_ips":["::1",null]}`,
	} {
		f.Add([]byte(seed))
	}
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schema := registry.Schema(reflect.TypeFor[NewKey](), true, "NewKey")
	f.Fuzz(func(t *testing.T, body []byte) {
		value, problem := parseStrict(body)
		if problem != nil {
			checkFaults(t, problem.Errors)
			return
		}
		if !json.Valid(body) || !utf8.Valid(body) {
			t.Fatalf("%q was admitted", body)
		}
		check := checker{registry: registry}
		check.check(schema, "body", value)
		if len(check.faults) > 0 {
			checkFaults(t, check.faults)
			return
		}
		var key NewKey
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&key); err != nil {
			t.Fatalf("%q was admitted and is unreadable: %v", body, err)
		}
		parsed := value.(*object)
		if key.Name != parsed.values["name"] || (key.AllowedIPs != nil) != (parsed.values["allowed_ips"] != nil) {
			t.Fatalf("%q reads as %+v", body, key)
		}
		if key.RateLimitPerHour != nil && (*key.RateLimitPerHour < 1 || *key.RateLimitPerHour > 1_000_000_000) {
			t.Fatalf("%q has limit %d", body, *key.RateLimitPerHour)
		}
		fields := fieldReader{place: "body"}
		if made := fields.newKey(&key, 0); fields.problem() == nil && made.Validate() != nil {
			t.Fatalf("%q makes a key that breaks a rule", body)
		}
	})
}

func checkFaults(t *testing.T, faults []FieldProblem) {
	if len(faults) == 0 || len(faults) > maxFaults {
		t.Fatalf("%d faults", len(faults))
	}
	for _, fault := range faults {
		if !strings.HasPrefix(fault.Location, "body") || !strings.HasPrefix(fault.Message, "expected ") || len(fault.Message) > 200 {
			t.Fatalf("a fault without place or expectation: %+v", fault)
		}
	}
}
