package admin

import (
	"context"
	"fmt"
	"net/http"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// UserChange says which fields of a user to change.
type UserChange struct {
	UserID int64            `json:"user_id" minimum:"1" maximum:"9007199254740991" doc:"As the list of users shows it."`
	Role   *string          `json:"role,omitempty" nullable:"false" enum:"member,viewer,admin,owner" doc:"What the user may do. Absent: as before."`
	Email  Optional[string] `json:"email,omitzero" maxLength:"254" doc:"Second name to sign in with. null: none. Absent: as before."`
}

type deleteUserRequest struct {
	UserID int64 `json:"user_id" minimum:"1" maximum:"9007199254740991" doc:"As the list of users shows it."`
}

// DeletedUser says which user is gone.
type DeletedUser struct {
	ID      apikey.UserID `json:"user_id"`
	Name    string        `json:"name"`
	Deleted bool          `json:"deleted" doc:"Always true."`
}

func registerUserList(public *api, s *service) {
	register(public, operation{
		id: "list-users", method: http.MethodGet, path: public.base + "users/", summary: "List all users", session: true, may: maySeeAll,
	}, func(ctx context.Context, _ *nothing) (*list[User], error) { return listed(s.listUsers(ctx)) })
}

// registerPeople adds the operations on users that both APIs have.
func registerPeople(a *api, s *service) {
	register(a, operation{
		id: "update-user", method: http.MethodPost, path: a.base + "users/update/", summary: "Change a user's role or address", session: true,
		may: mayRule, codes: []string{CodeNotFound, CodeAlreadyExists, CodeLastOwner, CodeStorageFull},
	}, func(ctx context.Context, request *input[UserChange]) (*answer[User], error) {
		return answered(s.changeUser(ctx, callerFrom(ctx).actor, &request.Body))
	})
	register(a, operation{
		id: "delete-user", method: http.MethodPost, path: a.base + "users/delete/", summary: "Delete a user who owns no keys", session: true,
		description: "Ends the user's sessions, too.", may: mayRule, codes: []string{CodeNotFound, CodeInUse, CodeLastOwner, CodeStorageFull},
	}, func(ctx context.Context, request *input[deleteUserRequest]) (*answer[DeletedUser], error) {
		by := callerFrom(ctx).actor
		user, err := s.store.DeleteUser(ctx, apikey.UserID(request.Body.UserID), by.audited(s.now()))
		if err != nil {
			return nil, fmt.Errorf("deleting a user: %w", err)
		}
		s.log(ctx, by, "user deleted", "user", user.Name, "user_id", user.ID)
		return &answer[DeletedUser]{DeletedUser{user.ID, user.Name, true}}, nil
	})
}

func (s *service) changeUser(ctx context.Context, by actor, request *UserChange) (User, error) {
	var role store.Role
	if request.Role != nil {
		var err error
		if role, err = roleOf(*request.Role); err != nil {
			return User{}, err
		}
	}
	email, err := emailOf(request.Email)
	if err != nil {
		return User{}, err
	}
	user, err := s.store.UpdateUser(ctx, apikey.UserID(request.UserID), func(user *store.User) error {
		if request.Role != nil {
			user.Role = role
		}
		if !request.Email.IsZero() {
			user.Email = email
		}
		return nil
	}, by.audited(s.now()))
	if err != nil {
		return User{}, nameTaken(fmt.Errorf("changing a user: %w", err))
	}
	s.log(ctx, by, "user changed", "user", user.Name, "user_id", user.ID, "role", user.Role)
	return userOf(user), nil
}

func emailOf(field Optional[string]) (string, error) {
	text, _ := field.Get()
	if text == "" {
		return "", nil
	}
	email, err := store.CanonicalEmail(text)
	if err != nil {
		return "", invalidField("email", err.Error())
	}
	return email, nil
}
