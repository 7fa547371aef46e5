package records

import (
	"fmt"

	"github.com/tokenkithq/authz/store"
)

// The fields of a user's record, whose place is the id.
const (
	userName         = 2  // text
	userEmail        = 4  // text
	userPasswordHash = 6  // text
	userCreatedAt    = 8  // number: Unix time in microseconds, zigzag
	userRole         = 10 // number: see roleNumber; a member's is left out
)

func encodeUser(user *store.User) []byte {
	record := appendText([]byte{recordFormat}, userName, user.Name)
	record = appendText(record, userEmail, user.Email)
	record = appendText(record, userPasswordHash, user.PasswordHash)
	record = appendTime(record, userCreatedAt, user.CreatedAt)
	return appendNumber(record, userRole, roleNumber(user.Role))
}

// roleNumber returns a role as records keep it.
func roleNumber(role store.Role) uint64 { return uint64(role) }

func roleAt(value []byte) (store.Role, error) {
	n, err := number(value)
	if err == nil && n > uint64(store.RoleOwner) {
		// What a later version lets a user do is nothing to guess.
		err = fmt.Errorf("a role %d, which this version does not know: %w", n, ErrNewer)
	}
	return store.Role(n), err
}

func decodeUser(record []byte) (*store.User, error) {
	user := &store.User{}
	err := eachField(record, func(f field) (err error) {
		switch f.tag {
		case userName:
			user.Name, err = text(f.value)
		case userEmail:
			user.Email, err = text(f.value)
		case userPasswordHash:
			user.PasswordHash, err = text(f.value)
		case userCreatedAt:
			user.CreatedAt, err = moment(f.value)
		case userRole:
			user.Role, err = roleAt(f.value)
		default:
			err = unknownField(f.tag)
		}
		return err
	})
	if err == nil && user.Name == "" {
		err = fmt.Errorf("%w: a user without a name", errRecord)
	}
	if err != nil {
		return nil, err
	}
	return user, nil
}
