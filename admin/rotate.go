package admin

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// Rotation says how long the value before the new one still works.
type Rotation struct {
	GraceSeconds *int64 `json:"grace_seconds,omitempty" nullable:"false" minimum:"0" maximum:"2592000" doc:"For how many seconds the present value works beside the new one, on the same hourly limit. 0: it stops at once. Absent: 86400, a day." example:"3600"`
}

// defaultGrace is for how long a value works after a rotation that does not
// say.
const defaultGrace = 24 * time.Hour

// rotateKey gives a key of owner, or of anybody where owner is zero, another
// secret. The secret before the present one stops at once.
func (s *service) rotateKey(ctx context.Context, by actor, owner apikey.UserID, id apikey.KeyID, request *Rotation) (CreatedKey, error) {
	grace := defaultGrace
	if request.GraceSeconds != nil {
		grace = time.Duration(*request.GraceSeconds) * time.Second
	}
	secret, err := apikey.NewSecret(rand.Reader)
	if err != nil {
		return CreatedKey{}, err
	}
	now := s.now()
	key, err := s.store.UpdateKey(ctx, owner, id, func(key *apikey.Key) error {
		previousHash, previousHint := key.Hash, key.Hint
		key.Hash, key.Hint = s.keyHasher.Hash(secret), secret.Hint()
		key.PreviousHash, key.PreviousHint, key.PreviousUntil = apikey.Hash{}, "", time.Time{}
		if grace > 0 {
			key.PreviousHash, key.PreviousHint = previousHash, previousHint
			key.PreviousUntil = now.Add(grace).UTC().Truncate(time.Microsecond)
		}
		return nil
	}, by.audited(now))
	if err != nil {
		return CreatedKey{}, fmt.Errorf("rotating a key: %w", err)
	}
	s.log(ctx, by, "key rotated", "key_id", key.ID, "key_name", key.Name, "owner", key.OwnerName, "grace", grace)
	return CreatedKey{keyOf(key, now), secret.Reveal()}, nil
}
