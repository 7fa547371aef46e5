package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/tokenkithq/authz/store"
)

// Addresses of the operator API.
const (
	operatorBase      = "/operator/v1/"
	operatorState     = "/operator/v1/state"
	operatorUsers     = "/operator/v1/users"
	operatorPassword  = "/operator/v1/users/password"
	operatorKeys      = "/operator/v1/keys"
	operatorDeleteKey = "/operator/v1/keys/delete"
	operatorBlocks    = "/operator/v1/blocks"
	operatorUnblock   = "/operator/v1/blocks/remove"
	operatorBackup    = "/operator/v1/store/backup"
)

// State is what an operator is told of a running program.
type State struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at" doc:"When the API was set up."`
	Users     int       `json:"users" doc:"How many users there are; with none, nobody can sign in."`
}

type passwordRequest struct {
	Name     string `json:"name" minLength:"1" maxLength:"254" doc:"User name or address."`
	Password string `json:"password" maxLength:"256" doc:"At least 12 characters and at most 256 bytes." writeOnly:"true"`
}

func (a *Admin) operatorAPI(s *service) http.Handler {
	operator := newAPI(s, huma.Info{
		Title: "TokenKit operator", Version: a.options.Version,
		Description: "What the command line does. Whoever can open the socket has all of it.",
	}, CodeInternal, CodeStorageUnavailable, CodeStorageDamaged)
	operator.base, operator.keys = operatorBase, operatorBase+"keys/"
	operator.operator = &caller{actor: operatorActor, role: store.RoleOwner}
	registerUsers(operator, s)
	registerOwnedKeys(operator, s)
	registerKey(operator, s)
	registerUsage(operator, s)
	registerExplain(operator, s)
	registerAudit(operator, s)
	registerPeople(operator, s)
	registerInvitations(operator, s)
	registerBlocks(operator, s, operatorBlocks+"/")
	started := s.now().UTC()
	register(operator, operation{id: "state", method: http.MethodGet, path: operatorState, summary: "State of the server"},
		func(ctx context.Context, _ *nothing) (*answer[State], error) {
			users, err := s.listUsers(ctx)
			if err != nil {
				return nil, err
			}
			return &answer[State]{State{Version: a.options.Version, StartedAt: started, Users: len(users)}}, nil
		})
	a.registerBackup(operator)
	operator.serveDescription("/operator/v1/openapi")
	operator.adapter.finish()
	return guards{logger: s.logger, observer: a.options.Observer}.protect(operator.adapter)
}

func registerUsers(operator *api, s *service) {
	register(operator, operation{
		id: "add-user", method: http.MethodPost, path: operatorUsers, summary: "Add a user", status: http.StatusCreated,
		codes: []string{CodeAlreadyExists, CodeBusy, CodeStorageFull},
	}, func(ctx context.Context, request *input[NewUser]) (*answer[User], error) {
		user, err := s.addUser(ctx, operatorActor, request.Body)
		if err != nil {
			return nil, err
		}
		return &answer[User]{user}, nil
	})
	register(operator, operation{id: "list-users", method: http.MethodGet, path: operatorUsers, summary: "List all users"},
		func(ctx context.Context, _ *nothing) (*list[User], error) {
			users, err := s.listUsers(ctx)
			if err != nil {
				return nil, err
			}
			return &list[User]{users}, nil
		})
	register(operator, operation{
		id: "set-password", method: http.MethodPost, path: operatorPassword, summary: "Set a user's password and end their sessions",
		status: http.StatusNoContent, codes: []string{CodeNotFound, CodeBusy, CodeStorageFull},
	}, func(ctx context.Context, request *input[passwordRequest]) (*nothing, error) {
		return nil, s.setPassword(ctx, operatorActor, request.Body.Name, request.Body.Password)
	})
}

// registerBackup adds the backup by hand, since an operation of huma would be
// ended after the time that other requests have.
func (a *Admin) registerBackup(operator *api) {
	op := huma.Operation{
		OperationID: "backup", Method: http.MethodPost, Path: operatorBackup, Summary: "Copy the store while it is in use",
		Description: "Streams a consistent copy. One that breaks off ends the connection before the answer is whole.",
		Responses: map[string]*huma.Response{"200": {
			Description: "The copy.", Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
		}},
	}
	operator.describe(&op, slices.Concat(operator.common, []string{CodeNotImplemented}))
	operator.OpenAPI().AddOperation(&op)
	operator.adapter.mux.HandleFunc("POST "+operatorBackup, func(w http.ResponseWriter, r *http.Request) { a.backup(w, r, operator) })
	operator.adapter.methods[operatorBackup] = []string{http.MethodPost}
}

func (a *Admin) backup(w http.ResponseWriter, r *http.Request, operator *api) {
	if a.options.Backup == nil {
		writeProblem(w, newProblem(CodeNotImplemented))
		return
	}
	// A copy may take longer than other answers. Writers that have no
	// deadline say so, which is as good.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	out := &countingWriter{w: w}
	size, err := a.options.Backup.Backup(r.Context(), newPacedWriter(r.Context(), out, a.options.BackupRate))
	if err == nil && size != out.n {
		err = fmt.Errorf("wrote %d bytes of %d", out.n, size)
	}
	switch {
	case err == nil:
		a.service.log(r.Context(), operatorActor, "store backed up", "bytes", size)
		event := store.Event{By: operatorActor.audited(a.service.now()), Action: store.ActionBackup, TargetKind: store.TargetStore}
		if err := a.service.store.AppendEvent(r.Context(), &event); err != nil {
			a.service.logger.ErrorContext(r.Context(), "writing a backup to the audit log", "error", err)
		}
	case out.n == 0:
		writeProblem(w, operator.refuse(r.Context(), "backup", err))
	default:
		a.service.logger.ErrorContext(r.Context(), "backup broke off", "error", err)
		// The client must not take the beginning of a copy for one.
		panic(http.ErrAbortHandler)
	}
}

// countingWriter declares the type of a copy at its first byte.
type countingWriter struct {
	w http.ResponseWriter
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	if c.n == 0 {
		c.w.Header().Set("Content-Type", "application/octet-stream")
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
