package authz_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tokenkithq/authz/"

// Each room may import only what its job needs, so that the domain stays pure
// and one technology stays in one place.
func TestImports(t *testing.T) {
	type room struct {
		own    []string // rooms of this module it may import
		others []string // prefixes of modules it may import
	}
	// For rooms that are not listed, only the general rules hold.
	rooms := map[string]room{
		"apikey":                            {others: []string{"golang.org/x/net/idna"}},
		"extauthz":                          {own: []string{"apikey", "extauthz/limit", "extauthz/block"}, others: []string{"google.golang.org/", "github.com/envoyproxy/", "golang.org/x/net/http/httpguts"}},
		"extauthz/limit":                    {own: []string{"apikey"}},
		"extauthz/block":                    {own: []string{"apikey"}},
		"extauthz/limit/lease":              {own: []string{"apikey", "extauthz/limit"}},
		"extauthz/limit/lease/enginetest":   {own: []string{"apikey", "extauthz/limit/lease"}, others: []string{"pgregory.net/rapid"}},
		"extauthz/block/shared":             {own: []string{"apikey", "extauthz/block"}},
		"extauthz/block/shared/backendtest": {own: []string{"apikey", "extauthz/block", "extauthz/block/shared"}},
		"extauthz/limit/etcd":               {own: []string{"apikey", "extauthz/limit/lease", "extauthz/block", "extauthz/block/shared"}, others: []string{"go.etcd.io/etcd/"}},
		"extauthz/limit/redis":              {own: []string{"apikey", "extauthz/limit/lease", "extauthz/block", "extauthz/block/shared"}, others: []string{"github.com/redis/rueidis"}},
		"extauthz/statefile":                {own: []string{"apikey", "extauthz/limit", "extauthz/block", "internal/boltfile"}},
		"telemetry":                         {own: []string{"apikey", "extauthz", "extauthz/limit", "extauthz/limit/lease", "extauthz/block", "extauthz/block/shared", "store", "store/etcd", "usage"}, others: []string{"github.com/go-json-experiment/", "github.com/prometheus/", "go.opentelemetry.io/", "google.golang.org/grpc"}},
		"usage":                             {own: []string{"apikey"}},
		"usage/usagefile":                   {own: []string{"apikey", "usage", "internal/boltfile"}},
		"store":                             {own: []string{"apikey"}, others: []string{"github.com/hashicorp/golang-lru/", "golang.org/x/"}},
		"store/records":                     {own: []string{"apikey", "store"}},
		"store/bolt":                        {own: []string{"apikey", "store", "store/records", "internal/boltfile"}},
		"store/etcd":                        {own: []string{"apikey", "store", "store/records"}, others: []string{"go.etcd.io/etcd/", "github.com/tidwall/btree", "go.uber.org/zap"}},
		"internal/tunnel":                   {},
		"internal/procs":                    {others: []string{"golang.org/x/sys/unix"}},
		"internal/pwhash":                   {own: []string{"internal/procs"}, others: []string{"golang.org/x/crypto/argon2", "golang.org/x/sys/unix"}},
		"internal/tlsfiles":                 {},
		"internal/connlimit":                {own: []string{"internal/pace"}},
		"internal/pace":                     {},
		"internal/attacks":                  {},
		"admin/dashboard":                   {},
		"admin":                             {own: []string{"apikey", "store", "usage"}, others: []string{"github.com/danielgtaylor/huma/", "golang.org/x/", "github.com/go-json-experiment/"}},
	}
	// Only these rooms may import these modules, whatever else they may.
	confined := map[string][]string{
		"go.etcd.io/bbolt":               {"internal/boltfile", "internal/boltfile/boltfiletest"},
		"github.com/danielgtaylor/huma/": {"admin"},
		"github.com/prometheus/":         {"telemetry"},
		"go.opentelemetry.io/":           {"telemetry"},
		"github.com/redis/rueidis":       {"extauthz/limit/redis"},
		"google.golang.org/grpc":         {"extauthz", "telemetry", "cmd/tokenkit-authz", "envoy/standin", "internal/bench"},
	}
	impure := []string{"net/http", "os", "log", "log/slog", "google.golang.org/grpc"}

	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		rule, listed := rooms[name]
		for _, path := range p.Imports {
			if own, isOwn := strings.CutPrefix(path, module); isOwn {
				if listed && !slices.Contains(rule.own, own) {
					t.Errorf("%s imports %s", name, own)
				}
				continue
			}
			if name == "apikey" && slices.Contains(impure, path) {
				t.Errorf("apikey imports %s", path)
			}
			external := strings.Contains(strings.Split(path, "/")[0], ".")
			if listed && external && !slices.ContainsFunc(rule.others, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
				t.Errorf("%s imports %s", name, path)
			}
			for prefix, only := range confined {
				if strings.HasPrefix(path, prefix) && !slices.Contains(only, name) {
					t.Errorf("%s imports %s, which is only for %v", name, path, only)
				}
			}
		}
	}
}

type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	var all []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); decoder.More(); {
		var p listed
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("only %d packages were listed", len(all))
	}
	return all
}
