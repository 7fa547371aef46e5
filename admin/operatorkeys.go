package admin

import (
	"context"
	"net/http"

	"github.com/tokenkithq/authz/store"
)

// OwnedKey describes a key that an operator makes for a user.
type OwnedKey struct {
	Owner string `json:"owner" minLength:"1" maxLength:"254" doc:"User name or address of the key's owner."`
	NewKey
}

// OwnedKeys describes keys that an operator makes for a user.
type OwnedKeys struct {
	Owner string   `json:"owner" minLength:"1" maxLength:"254" doc:"User name or address of the keys' owner."`
	Keys  []NewKey `json:"keys" nullable:"false" minItems:"1" maxItems:"100" doc:"Up to 100 keys."`
}

// registerOwnedKeys adds the operations by which the operator makes keys.
func registerOwnedKeys(operator *api, s *service) {
	register(operator, operation{
		id: "create-key", method: http.MethodPost, path: operatorKeys, summary: "Create a key for a user", status: http.StatusCreated,
		codes: []string{CodeNotFound, CodeStorageFull},
	}, func(ctx context.Context, request *input[OwnedKey]) (*answer[CreatedKey], error) {
		owner, err := s.findUser(ctx, "owner", request.Body.Owner)
		if err != nil {
			return nil, err
		}
		return answered(s.createKey(ctx, operatorActor, owner, &request.Body.NewKey))
	})
	register(operator, operation{
		id: "batch-create-keys", method: http.MethodPost, path: operatorKeys + "/batch-create", summary: "Create keys for a user, all or none",
		status: http.StatusCreated, codes: []string{CodeNotFound, CodeStorageFull},
	}, func(ctx context.Context, request *input[OwnedKeys]) (*list[CreatedKey], error) {
		owner, err := s.findUser(ctx, "owner", request.Body.Owner)
		if err != nil {
			return nil, err
		}
		return listed(s.createKeys(ctx, operatorActor, owner, request.Body.Keys))
	})
	register(operator, operation{
		id: "list-keys", method: http.MethodGet, path: operatorKeys, summary: "List the keys of one user or of all", session: true,
		description: "With no parameter but owner, lists all by ascending id; with others, a page of them, the newest first.",
		codes:       []string{CodeNotFound},
	}, func(ctx context.Context, query *keyQuery) (*page[Key], error) {
		by := caller{actor: operatorActor, role: store.RoleOwner}
		owner, err := s.ownerOf(ctx, by, query.Owner)
		if err != nil {
			return nil, err
		}
		if *query == (keyQuery{Owner: query.Owner}) {
			return allPages(s.listKeys(ctx, owner))
		}
		return s.searchKeys(ctx, operatorKeys, owner, query)
	})
}
