package records

import (
	"context"
	"errors"
	"fmt"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// CreateUser implements [store.Users]. It returns an [*apikey.FieldError] for
// a user that is not valid.
func (s *Store) CreateUser(ctx context.Context, user *store.User, by store.Actor) (*store.User, error) {
	if user.ID != 0 {
		return nil, failed("creating user", idGiven("id", int64(user.ID)))
	}
	if err := user.Validate(); err != nil {
		return nil, failed("creating user", err)
	}
	stored, by := store.StoredUser(user), by.Stored()
	var created *store.User
	err := s.engine.Update(ctx, func(tx Tx) error {
		created = clone(stored)
		if err := createUser(tx, created); err != nil {
			return err
		}
		return s.note(tx, store.UserEvent(store.ActionCreateUser, nil, created, by))
	})
	if err != nil {
		return nil, failed("creating user", err)
	}
	return created, nil
}

// createUser puts a user under a new id. The first one is an owner: nobody
// could make one otherwise.
func createUser(tx Tx, user *store.User) error {
	count, err := tx.Count(UsersBucket)
	if err != nil {
		return err
	}
	if count == 0 {
		user.Role = store.RoleOwner
	}
	if user.ID, err = nextID[apikey.UserID](tx, UsersBucket); err != nil {
		return err
	}
	return insertUser(tx, user, encodeUser(user))
}

// insertUser puts a user that has its id, and its logins, or returns ErrExists.
func insertUser(tx Tx, user *store.User, record []byte) error {
	place := idKey(user.ID)
	taken, err := tx.Get(UsersBucket, place)
	if err != nil {
		return err
	}
	if taken != nil {
		return &apikey.FieldError{Field: "id", Err: store.ErrExists}
	}
	if err := tx.Put(UsersBucket, place, record); err != nil {
		return err
	}
	for _, login := range loginsOf(user) {
		if err := putLogin(tx, login, place); err != nil {
			return err
		}
	}
	return nil
}

// putLogin makes a login lead to a user, or returns ErrExists.
func putLogin(tx Tx, login login, place []byte) error {
	if err := loginFree(tx, login); err != nil {
		return err
	}
	return tx.Put(LoginsBucket, []byte(login.text), place)
}

// loginFree returns ErrExists where a login is a user's.
func loginFree(tx Tx, login login) error {
	taken, err := tx.Get(LoginsBucket, []byte(login.text))
	if err == nil && taken != nil {
		err = &apikey.FieldError{Field: login.field, Err: store.ErrExists}
	}
	return err
}

type login struct{ field, text string }

// loginsOf returns what finds a user, each once.
func loginsOf(user *store.User) []login {
	logins := []login{{"username", user.Name}}
	if user.Email != "" && user.Email != user.Name {
		logins = append(logins, login{"email", user.Email})
	}
	return logins
}

// FindUser implements [store.Users].
func (s *Store) FindUser(ctx context.Context, nameOrEmail string) (*store.User, error) {
	var user *store.User
	err := s.engine.View(ctx, func(tx Tx) error {
		entry, err := tx.Get(LoginsBucket, []byte(nameOrEmail))
		if err != nil {
			return err
		}
		if entry == nil {
			return store.ErrNotFound
		}
		id, err := idAt[apikey.UserID](entry)
		if err != nil {
			return err
		}
		user, err = loadUser(tx, id)
		if errors.Is(err, store.ErrNotFound) {
			return damaged("user %d has a login and no record", id)
		}
		if err == nil && user.Name != nameOrEmail && user.Email != nameOrEmail {
			return damaged("user %d is found by the login of another", id)
		}
		return err
	})
	if err != nil {
		return nil, failed("finding user", err)
	}
	return user, nil
}

// loadUser reads a user, or returns ErrNotFound.
func loadUser(tx Tx, id apikey.UserID) (*store.User, error) {
	record, err := tx.Get(UsersBucket, idKey(id))
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, store.ErrNotFound
	}
	user, err := decodeUser(record)
	if err != nil {
		return nil, unreadable("user", int64(id), err)
	}
	user.ID = id
	return user, nil
}

// User implements [store.Users].
func (s *Store) User(ctx context.Context, id apikey.UserID) (*store.User, error) {
	var user *store.User
	err := s.engine.View(ctx, func(tx Tx) (err error) {
		user, err = loadUser(tx, id)
		return err
	})
	if err != nil {
		return nil, failed(fmt.Sprintf("finding user %d", id), err)
	}
	return user, nil
}

// ListUsers implements [store.Users].
func (s *Store) ListUsers(ctx context.Context) ([]*store.User, error) {
	var users []*store.User
	err := s.engine.View(ctx, func(tx Tx) error {
		return eachUser(ctx, tx, func(user *store.User) error {
			users = append(users, user)
			return nil
		})
	})
	if err != nil {
		return nil, failed("listing users", err)
	}
	return users, nil
}

// eachUser calls fn with all users by ascending id.
func eachUser(ctx context.Context, tx Tx, fn func(*store.User) error) error {
	return scan(ctx, tx, UsersBucket, nil, func(place, _ []byte) error {
		id, err := idAt[apikey.UserID](place)
		if err != nil {
			return err
		}
		user, err := loadUser(tx, id)
		if err != nil {
			return err
		}
		return fn(user)
	})
}
