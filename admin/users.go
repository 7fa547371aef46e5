package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// NewUser describes a user to be made.
type NewUser struct {
	Name     string `json:"name" minLength:"1" maxLength:"254" doc:"Unique among all user names and addresses, in lower case." example:"ada"`
	Email    string `json:"email,omitempty" maxLength:"254" doc:"Optional second name to sign in with, unique likewise." example:"ada@example.com"`
	Password string `json:"password" maxLength:"256" doc:"At least 12 characters and at most 256 bytes." writeOnly:"true"`
	Role     string `json:"role,omitempty" enum:"member,viewer,admin,owner" doc:"What the user may do. Absent: member. The first user is an owner in any case."`
}

// User is what may be told of a user.
type User struct {
	ID        apikey.UserID `json:"id" doc:"Never used again."`
	Name      string        `json:"name"`
	Email     string        `json:"email,omitempty"`
	Role      string        `json:"role" enum:"member,viewer,admin,owner"`
	CreatedAt time.Time     `json:"created_at"`
}

func userOf(user *store.User) User {
	return User{ID: user.ID, Name: user.Name, Email: user.Email, Role: user.Role.String(), CreatedAt: user.CreatedAt.UTC()}
}

func (s *service) addUser(ctx context.Context, by actor, request NewUser) (User, error) {
	name, err := store.CanonicalUserName(request.Name)
	if err != nil {
		return User{}, invalidField("name", err.Error())
	}
	var email string
	if request.Email != "" {
		if email, err = store.CanonicalEmail(request.Email); err != nil {
			return User{}, invalidField("email", err.Error())
		}
	}
	role, err := roleOf(request.Role)
	if err != nil {
		return User{}, err
	}
	if err := checkPassword(request.Password); err != nil {
		return User{}, invalidField("password", err.Error())
	}
	hash, err := s.passwords.hash(ctx, request.Password)
	if err != nil {
		return User{}, err
	}
	user, err := s.store.CreateUser(ctx, &store.User{
		Name: name, Email: email, PasswordHash: hash, Role: role, CreatedAt: s.now().UTC().Truncate(time.Microsecond),
	}, by.audited(s.now()))
	if err != nil {
		return User{}, nameTaken(fmt.Errorf("adding a user: %w", err))
	}
	s.log(ctx, by, "user added", "user", user.Name, "user_id", user.ID)
	return userOf(user), nil
}

// roleOf reads a role; empty stands for the least.
func roleOf(text string) (store.Role, error) {
	if text == "" {
		return store.RoleMember, nil
	}
	role, err := store.ParseRole(text)
	if err != nil {
		return 0, invalidField("role", err.Error())
	}
	return role, nil
}

// nameTaken says of an error which of a user's names is taken, if that is it.
func nameTaken(err error) error {
	var field *apikey.FieldError
	if !errors.Is(err, store.ErrExists) || !errors.As(err, &field) {
		return err
	}
	location := "body.name"
	if field.Field == "email" {
		location = "body.email"
	}
	return newProblem(CodeAlreadyExists, FieldProblem{Location: location, Message: "expected one that is nobody's name or address"})
}

// setPassword gives a user a new password and ends all of their sessions.
func (s *service) setPassword(ctx context.Context, by actor, login, password string) error {
	user, err := s.findUser(ctx, "name", login)
	if err != nil {
		return err
	}
	if err := checkPassword(password); err != nil {
		return invalidField("password", err.Error())
	}
	hash, err := s.passwords.hash(ctx, password)
	if err != nil {
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.store.SetPasswordHash(ctx, user.ID, "", hash, nil, by.audited(s.now())); err != nil {
		return fmt.Errorf("changing a password: %w", err)
	}
	s.log(ctx, by, "password changed", "user", user.Name, "user_id", user.ID)
	return nil
}

func (s *service) listUsers(ctx context.Context) ([]User, error) {
	users, err := s.store.ListUsers(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing users: %w", err)
	}
	list := make([]User, len(users))
	for i, user := range users {
		list[i] = userOf(user)
	}
	return list, nil
}

// findUser returns the user whom a field of a request names.
func (s *service) findUser(ctx context.Context, field, login string) (*store.User, error) {
	canonical, err := store.CanonicalLogin(login)
	if err != nil {
		return nil, invalidField(field, err.Error())
	}
	user, err := s.store.FindUser(ctx, canonical)
	if errors.Is(err, store.ErrNotFound) {
		return nil, newProblem(CodeNotFound, FieldProblem{Location: field, Message: "expected the name or address of a user, there is none like it"})
	}
	if err != nil {
		return nil, fmt.Errorf("finding a user: %w", err)
	}
	return user, nil
}
