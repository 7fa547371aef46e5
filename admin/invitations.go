package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tokenkithq/authz/store"
)

const (
	// InvitationPrefix starts every invitation's token.
	InvitationPrefix = "tki_"
	// InvitationTTL is how long an invitation can be accepted.
	InvitationTTL = 7 * 24 * time.Hour

	// acceptPath is the dashboard's page for accepting an invitation. The token
	// follows as a fragment, which browsers send to nobody.
	acceptPath = "/accept-invitation#"
)

// NewInvitation describes who is invited.
type NewInvitation struct {
	Name  string `json:"name" minLength:"1" maxLength:"254" doc:"Unique among all user names and addresses, in lower case." example:"ada"`
	Email string `json:"email,omitempty" maxLength:"254" doc:"Optional second name to sign in with, unique likewise." example:"ada@example.com"`
	Role  string `json:"role,omitempty" enum:"member,viewer,admin,owner" doc:"What the user will be able to do. Absent: member."`
}

// Invitation lets somebody become a user.
type Invitation struct {
	ID        string    `json:"id" doc:"Names the invitation in lists. It is of no use for accepting it."`
	Name      string    `json:"name"`
	Email     string    `json:"email,omitempty"`
	Role      string    `json:"role" enum:"member,viewer,admin,owner"`
	InvitedBy string    `json:"invited_by"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// SentInvitation is a new invitation with its link, which is never shown
// again.
type SentInvitation struct {
	Invitation
	Link string `json:"link" doc:"Where the invitation is accepted, once. It is shown only here."`
}

func invitationOf(i *store.Invitation) Invitation {
	return Invitation{
		ID: i.ID.Public(), Name: i.Name, Email: i.Email, Role: i.Role.String(), InvitedBy: i.InvitedBy,
		CreatedAt: i.CreatedAt.UTC(), ExpiresAt: i.ExpiresAt.UTC(),
	}
}

type (
	uninviteRequest struct {
		InvitationID string `json:"invitation_id" minLength:"1" maxLength:"64" doc:"As the list of invitations shows it."`
	}
	acceptRequest struct {
		Token    string `json:"token" minLength:"1" maxLength:"100" doc:"What follows # in the invitation's link." writeOnly:"true"`
		Password string `json:"password" minLength:"12" maxLength:"256" doc:"At least 12 characters and at most 256 bytes." writeOnly:"true"`
	}
)

// registerInvitations adds the operations on invitations that both APIs have.
func registerInvitations(a *api, s *service) {
	register(a, operation{
		id: "invite-user", method: http.MethodPost, path: a.base + "users/invite/", summary: "Invite somebody by a link", session: true, may: mayRule,
		description: "The link works once, for seven days. A new invitation for the same name takes the place of the one before.",
		status:      http.StatusCreated, codes: []string{CodeAlreadyExists, CodeStorageFull},
	}, func(ctx context.Context, request *input[NewInvitation]) (*answer[SentInvitation], error) {
		return answered(s.invite(ctx, callerFrom(ctx).actor, &request.Body))
	})
	register(a, operation{
		id: "list-invitations", method: http.MethodGet, path: a.base + "invitations/", summary: "List the invitations that can be accepted", session: true, may: maySeeAll,
	}, func(ctx context.Context, _ *nothing) (*list[Invitation], error) {
		return listed(s.listInvitations(ctx))
	})
	register(a, operation{
		id: "revoke-invitation", method: http.MethodPost, path: a.base + "invitations/revoke/", summary: "Take an invitation back", session: true, may: mayRule,
		status: http.StatusNoContent, codes: []string{CodeNotFound, CodeStorageFull},
	}, func(ctx context.Context, request *input[uninviteRequest]) (*nothing, error) {
		return nil, s.uninvite(ctx, callerFrom(ctx).actor, request.Body.InvitationID)
	})
}

func registerAccept(public *api, s *service) {
	register(public, operation{
		id: "accept-invitation", method: http.MethodPost, path: public.base + "accept-invitation/", summary: "Become a user", status: http.StatusCreated,
		description: "Makes the user who was invited, who can then log in.",
		codes: []string{
			CodeNotFound, CodeAlreadyExists, CodeTooManyAttempts, CodeBusy, CodeStorageUnavailable, CodeStorageFull, CodeStorageDamaged,
		},
	}, func(ctx context.Context, request *input[acceptRequest]) (*answer[User], error) {
		return answered(s.accept(ctx, clientFrom(ctx), request.Body.Token, request.Body.Password))
	})
}

func (s *service) invite(ctx context.Context, by actor, request *NewInvitation) (SentInvitation, error) {
	name, err := store.CanonicalUserName(request.Name)
	if err != nil {
		return SentInvitation{}, invalidField("name", err.Error())
	}
	email, err := emailOf(Some(request.Email))
	if err != nil {
		return SentInvitation{}, err
	}
	role, err := roleOf(request.Role)
	if err != nil {
		return SentInvitation{}, err
	}
	var raw [tokenBytes]byte
	// crypto/rand ends the program rather than return fewer bytes.
	_, _ = rand.Read(raw[:])
	token := InvitationPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
	now := s.now().UTC().Truncate(time.Microsecond)
	invitation := store.Invitation{
		ID: sha256.Sum256([]byte(token)), Name: name, Email: email, Role: role, CreatedAt: now, ExpiresAt: now.Add(InvitationTTL), InvitedBy: by.name,
	}
	if err := s.store.CreateInvitation(ctx, &invitation, by.audited(now)); err != nil {
		return SentInvitation{}, nameTaken(fmt.Errorf("inviting a user: %w", err))
	}
	s.log(ctx, by, "user invited", "user", name, "role", role)
	return SentInvitation{invitationOf(&invitation), s.publicURL + acceptPath + token}, nil
}

func (s *service) listInvitations(ctx context.Context) ([]Invitation, error) {
	invitations, err := s.store.ListInvitations(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing invitations: %w", err)
	}
	now, infos := s.now(), []Invitation{}
	for _, invitation := range invitations {
		if now.Before(invitation.ExpiresAt) {
			infos = append(infos, invitationOf(invitation))
		}
	}
	return infos, nil
}

func (s *service) uninvite(ctx context.Context, by actor, id string) error {
	invitations, err := s.store.ListInvitations(ctx)
	if err != nil {
		return fmt.Errorf("listing invitations: %w", err)
	}
	for _, invitation := range invitations {
		if invitation.ID.Public() != id {
			continue
		}
		if _, err := s.store.DeleteInvitation(ctx, invitation.ID, by.audited(s.now())); err != nil {
			return fmt.Errorf("taking an invitation back: %w", err)
		}
		s.log(ctx, by, "invitation taken back", "user", invitation.Name)
		return nil
	}
	return newProblem(CodeNotFound, FieldProblem{Location: "body.invitation_id", Message: "expected the id of an invitation"})
}

// accept makes the user whom an invitation is for. Tokens cannot be guessed;
// attempts are counted so that nobody makes us work by trying.
func (s *service) accept(ctx context.Context, from client, token, password string) (User, error) {
	giveBack, err := s.attempt(ctx, from.address, "")
	if err != nil {
		return User{}, err
	}
	if err := checkPassword(password); err != nil {
		giveBack()
		return User{}, invalidField("password", err.Error())
	}
	id := store.InvitationID(sha256.Sum256([]byte(token)))
	invitation, err := s.store.FindInvitation(ctx, id)
	if !strings.HasPrefix(token, InvitationPrefix) || errors.Is(err, store.ErrNotFound) || err == nil && !s.now().Before(invitation.ExpiresAt) {
		return User{}, newProblem(CodeNotFound, FieldProblem{Location: "body.token", Message: "expected the token of an invitation that was not accepted and has not ended"})
	}
	giveBack()
	if err != nil {
		return User{}, fmt.Errorf("finding an invitation: %w", err)
	}
	hash, err := s.passwords.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	by := actor{name: invitation.Name, address: from.address}.audited(s.now())
	by.Kind = store.ActorUser
	user, err := s.store.AcceptInvitation(ctx, id, hash, by)
	if err != nil {
		return User{}, nameTaken(fmt.Errorf("accepting an invitation: %w", err))
	}
	s.log(ctx, actor{user.ID, user.Name, from.address}, "user joined", "user", user.Name, "user_id", user.ID)
	return userOf(user), nil
}
