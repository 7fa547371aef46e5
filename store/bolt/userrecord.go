package bolt

import (
	"fmt"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// The fields of a user's record, whose place is the id.
const (
	userName         = 2 // text
	userEmail        = 4 // text
	userPasswordHash = 6 // text
	userCreatedAt    = 8 // number: Unix time in microseconds, zigzag
)

func encodeUser(user *store.User) []byte {
	record := appendText([]byte{recordFormat}, userName, user.Name)
	record = appendText(record, userEmail, user.Email)
	record = appendText(record, userPasswordHash, user.PasswordHash)
	return appendTime(record, userCreatedAt, user.CreatedAt)
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

// The fields of a session's record, whose place is the id.
const (
	sessionUser      = 2 // number
	sessionCreatedAt = 4 // number: Unix time in microseconds, zigzag
	sessionExpiresAt = 6 // the same
)

func encodeSession(session *store.Session) []byte {
	record := appendNumber([]byte{recordFormat}, sessionUser, uint64(session.User))
	record = appendTime(record, sessionCreatedAt, session.CreatedAt)
	return appendTime(record, sessionExpiresAt, session.ExpiresAt)
}

func decodeSession(record []byte) (*store.Session, error) {
	session := &store.Session{}
	err := eachField(record, func(f field) (err error) {
		var n uint64
		switch f.tag {
		case sessionUser:
			n, err = positive(f.value)
			session.User = apikey.UserID(n)
		case sessionCreatedAt:
			session.CreatedAt, err = moment(f.value)
		case sessionExpiresAt:
			session.ExpiresAt, err = moment(f.value)
		default:
			err = unknownField(f.tag)
		}
		return err
	})
	if err == nil && session.User == 0 {
		err = fmt.Errorf("%w: a session without a user", errRecord)
	}
	if err != nil {
		return nil, err
	}
	return session, nil
}
