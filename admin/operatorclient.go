package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

func operatorKey(id apikey.KeyID, operation string) string {
	return fmt.Sprintf("%s/%d/%s", operatorKeys, id, operation)
}

// Key returns a key of any user.
func (c *OperatorClient) Key(ctx context.Context, id apikey.KeyID) (Key, error) {
	var key Key
	err := c.call(ctx, http.MethodGet, operatorKey(id, ""), nil, &key)
	return key, wrap("showing a key", err)
}

// KeySearch describes keys to list. Owner is a user name or address; empty
// stands for all.
type KeySearch struct {
	Owner, Search, State string
	Limit                int          // of a page; zero: 50
	After                apikey.KeyID // only keys with a smaller id; zero: all
}

// SearchKeys returns a page of keys, the newest first, and how many there are
// on all pages.
func (c *OperatorClient) SearchKeys(ctx context.Context, search KeySearch) (keys []Key, total int, err error) {
	query := url.Values{"limit": {strconv.Itoa(max(search.Limit, 0))}}
	if search.Limit <= 0 {
		query.Set("limit", "50")
	}
	setText(query, map[string]string{"owner": search.Owner, "search": search.Search, "state": search.State})
	if search.After != 0 {
		query.Set("after", strconv.FormatInt(int64(search.After), 10))
	}
	response, err := c.send(ctx, http.MethodGet, operatorKeys+"?"+query.Encode(), nil)
	if err != nil {
		return nil, 0, wrap("searching keys", err)
	}
	defer closeBody(response)
	if total, err = strconv.Atoi(response.Header.Get("X-Total-Count")); err != nil {
		return nil, 0, wrap("searching keys", err)
	}
	return keys, total, wrap("searching keys", decode(response.Body, &keys))
}

// UpdateKey changes a key of any user.
func (c *OperatorClient) UpdateKey(ctx context.Context, id apikey.KeyID, change KeyChange) (Key, error) {
	var key Key
	err := c.call(ctx, http.MethodPatch, operatorKey(id, ""), change, &key)
	return key, wrap("changing a key", err)
}

// EnableKey ends or begins a pause of a key.
func (c *OperatorClient) EnableKey(ctx context.Context, id apikey.KeyID, enabled bool) (Key, error) {
	return c.UpdateKey(ctx, id, KeyChange{Enabled: Some(enabled)})
}

// RotateKey gives a key a new secret; the one before works for grace, in whole
// seconds and at most 30 days.
func (c *OperatorClient) RotateKey(ctx context.Context, id apikey.KeyID, grace time.Duration) (CreatedKey, error) {
	seconds := int64(grace / time.Second)
	var rotated CreatedKey
	err := c.call(ctx, http.MethodPost, operatorKey(id, "rotate/"), Rotation{GraceSeconds: &seconds}, &rotated)
	return rotated, wrap("rotating a key", err)
}

// CreateKeys makes up to 100 keys for a user, all or none.
func (c *OperatorClient) CreateKeys(ctx context.Context, keys OwnedKeys) ([]CreatedKey, error) {
	var created []CreatedKey
	err := c.call(ctx, http.MethodPost, operatorKeys+"/batch-create", keys, &created)
	return created, wrap("creating keys", err)
}

// DeleteKeys deletes up to 100 keys of any users, all or none.
func (c *OperatorClient) DeleteKeys(ctx context.Context, ids []apikey.KeyID) ([]DeletedKey, error) {
	request := deleteKeysRequest{KeyIDs: make([]int64, len(ids))}
	for i, id := range ids {
		request.KeyIDs[i] = int64(id)
	}
	var deleted []DeletedKey
	err := c.call(ctx, http.MethodPost, operatorKeys+"/batch-delete", request, &deleted)
	return deleted, wrap("deleting keys", err)
}

// Usage returns what a key did, by the "minute", "hour" or "day". Empty stands
// for hour, zero times for the span that the API describes.
func (c *OperatorClient) Usage(ctx context.Context, id apikey.KeyID, resolution string, from, to time.Time) (UsageSeries, error) {
	query := url.Values{}
	setText(query, map[string]string{"resolution": resolution})
	setTimes(query, from, to)
	var series UsageSeries
	err := c.call(ctx, http.MethodGet, operatorKey(id, "usage/")+"?"+query.Encode(), nil, &series)
	return series, wrap("asking what a key did", err)
}

// Limit returns the state of a key's hourly limit.
func (c *OperatorClient) Limit(ctx context.Context, id apikey.KeyID) (LimitInfo, error) {
	var limit LimitInfo
	err := c.call(ctx, http.MethodGet, operatorKey(id, "limit/"), nil, &limit)
	return limit, wrap("asking for a key's limit", err)
}

// Explain returns what would become of a request with a key.
func (c *OperatorClient) Explain(ctx context.Context, id apikey.KeyID, request ExplainRequest) (Explanation, error) {
	var explanation Explanation
	err := c.call(ctx, http.MethodPost, operatorKey(id, "explain/"), request, &explanation)
	return explanation, wrap("explaining a request", err)
}

// Audit returns a page of the audit log, the newest event first.
func (c *OperatorClient) Audit(ctx context.Context, query AuditQuery) ([]AuditEvent, error) {
	var events []AuditEvent
	err := c.call(ctx, http.MethodGet, operatorBase+"audit/?"+query.values().Encode(), nil, &events)
	return events, wrap("listing the audit log", err)
}

// ExportAudit writes the audit log to w as JSON Lines. An export that breaks
// off is an error.
func (c *OperatorClient) ExportAudit(ctx context.Context, query AuditQuery, w io.Writer) error {
	response, err := c.send(ctx, http.MethodGet, operatorBase+"audit/export/?"+query.values().Encode(), nil)
	if err != nil {
		return wrap("exporting the audit log", err)
	}
	defer closeBody(response)
	_, err = io.Copy(w, response.Body)
	return wrap("exporting the audit log", err)
}

// UpdateUser changes a user's role or address.
func (c *OperatorClient) UpdateUser(ctx context.Context, change UserChange) (User, error) {
	var user User
	err := c.call(ctx, http.MethodPost, operatorUsers+"/update", change, &user)
	return user, wrap("changing a user", err)
}

// DeleteUser deletes a user who owns no keys.
func (c *OperatorClient) DeleteUser(ctx context.Context, id apikey.UserID) (DeletedUser, error) {
	var deleted DeletedUser
	err := c.call(ctx, http.MethodPost, operatorUsers+"/delete", deleteUserRequest{int64(id)}, &deleted)
	return deleted, wrap("deleting a user", err)
}

// Invite invites somebody by a link, which is told only here.
func (c *OperatorClient) Invite(ctx context.Context, invitation NewInvitation) (SentInvitation, error) {
	var sent SentInvitation
	err := c.call(ctx, http.MethodPost, operatorUsers+"/invite", invitation, &sent)
	return sent, wrap("inviting a user", err)
}

// ListInvitations returns the invitations that can be accepted, the newest
// first.
func (c *OperatorClient) ListInvitations(ctx context.Context) ([]Invitation, error) {
	var invitations []Invitation
	err := c.call(ctx, http.MethodGet, operatorBase+"invitations", nil, &invitations)
	return invitations, wrap("listing invitations", err)
}

// RevokeInvitation takes an invitation back, by the id that a list shows.
func (c *OperatorClient) RevokeInvitation(ctx context.Context, id string) error {
	return wrap("taking an invitation back", c.call(ctx, http.MethodPost, operatorBase+"invitations/revoke", uninviteRequest{id}, nil))
}

func setText(query url.Values, values map[string]string) {
	for name, value := range values {
		if value != "" {
			query.Set(name, value)
		}
	}
}

func setTimes(query url.Values, from, to time.Time) {
	for name, value := range map[string]time.Time{"from": from, "to": to} {
		if !value.IsZero() {
			query.Set(name, value.UTC().Format(time.RFC3339Nano))
		}
	}
}
