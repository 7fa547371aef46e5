//go:build linux

package load

import (
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/tokenkithq/authz/apikey"
)

// absentKeys is how many keys that do not exist are made: several times what a
// service remembers of such keys, so that it has forgotten each when it comes
// again.
const absentKeys = 100_000

// keys picks the key of each request.
type keys struct {
	secrets []byte // one after the other
	pick    Pick
	zipf    *rand.Zipf
	next    int
}

func newKeys(j Job) (*keys, error) {
	k := &keys{pick: j.Pick}
	random := rand.New(rand.NewPCG(j.Seed, 1))
	if j.Pick == Absent {
		source := rand.NewChaCha8([32]byte{byte(j.Seed), 'x'})
		for range absentKeys {
			secret, err := apikey.NewSecret(source)
			if err != nil {
				return nil, err
			}
			k.secrets = append(k.secrets, secret.Reveal()...)
		}
		return k, nil
	}
	var err error
	if k.secrets, err = os.ReadFile(j.Secrets); err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	n := len(k.secrets) / apikey.SecretLength
	if n == 0 || len(k.secrets)%apikey.SecretLength != 0 {
		return nil, fmt.Errorf("reading keys: %s does not hold keys of %d bytes", j.Secrets, apikey.SecretLength)
	}
	switch j.Pick {
	case One:
	case Zipf:
		k.zipf = rand.NewZipf(random, 1.1, 1, uint64(n-1))
	default:
		return nil, fmt.Errorf("job: pick %q: expected %s, %s or %s", j.Pick, One, Zipf, Absent)
	}
	return k, nil
}

// put writes the next key over the one that stands at the start of to.
func (k *keys) put(to []byte) {
	i := 0
	switch k.pick {
	case Zipf:
		i = int(k.zipf.Uint64())
	case Absent:
		i = k.next
		k.next = (k.next + 1) % absentKeys
	}
	i *= apikey.SecretLength
	copy(to[:apikey.SecretLength], k.secrets[i:])
}
