package extauthz

import (
	"fmt"
	"slices"
	"strings"
)

func (h *IdentityHeaders) names() []string {
	return []string{h.KeyID, h.KeyName, h.Owner, h.Metadata}
}

// maxHyphens bounds how many names one has: each hyphen doubles them.
const maxHyphens = 5

// checkUnderscored refuses names that have too many others.
func checkUnderscored(names []string) error {
	for _, name := range names {
		if strings.Count(name, "-") > maxHyphens {
			return fmt.Errorf("removing underscored headers: expected at most %d hyphens in %q", maxHyphens, name)
		}
	}
	return nil
}

// underscored returns all names that are one of these but for underscores in
// the place of some hyphens, other than these themselves.
func underscored(names []string) []string {
	var all []string
	for _, name := range names {
		variants := []string{""}
		for i := range len(name) {
			if name[i] != '-' {
				for j := range variants {
					variants[j] += name[i : i+1]
				}
				continue
			}
			for j, variant := range variants {
				variants[j] = variant + "-"
				variants = append(variants, variant+"_")
			}
		}
		all = append(all, variants...)
	}
	// Envoy drops a header that is both set and removed.
	return slices.DeleteFunc(all, func(name string) bool { return slices.Contains(names, name) })
}
