package admin_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/usage"
)

// The operator does with every key what its owner may.
func TestOperatorLifeOfAKey(t *testing.T) {
	var recorder *usage.Recorder
	change := func(o *admin.Options) {
		recorder = newRecorder(t)
		o.Usage, o.Limits, o.PublicURL = recorder, &limitOf{remaining: 4}, "https://keys.example.io"
	}
	overBoth(t, change, func(t *testing.T, h *harness, client *admin.OperatorClient) {
		ctx := t.Context()
		limit := int64(5)
		made, err := client.CreateKeys(ctx, admin.OwnedKeys{Owner: "bob", Keys: []admin.NewKey{{Name: "first", RateLimitPerHour: &limit}, {Name: "second"}}})
		if err != nil || len(made) != 2 || made[0].Owner != "bob" {
			t.Fatalf("got %+v, %v", made, err)
		}
		id := made[0].ID
		key, err := client.UpdateKey(ctx, id, admin.KeyChange{
			Name: admin.Some("renamed"), Metadata: admin.Some(admin.Metadata{"team": "pay"}), AllowedIPs: admin.Some([]string{"10.0.0.0/8"}),
			ExpiresAt: admin.Some(h.clock.now().Add(time.Hour)),
		})
		if err != nil || key.Name != "renamed" || key.Metadata["team"] != "pay" || *key.RateLimitPerHour != 5 || key.ExpiresAt == nil {
			t.Errorf("got %+v, %v", key, err)
		}
		if key, err = client.UpdateKey(ctx, id, admin.KeyChange{RateLimitPerHour: admin.Null[int64](), AllowedIPs: admin.Null[[]string]()}); err != nil ||
			key.RateLimitPerHour != nil || len(key.AllowedIPs) != 0 || key.Name != "renamed" {
			t.Errorf("got %+v, %v", key, err)
		}
		if key, err = client.EnableKey(ctx, id, false); err != nil || key.Enabled || key.State != admin.StatePaused {
			t.Errorf("got %+v, %v", key, err)
		}
		if key, err = client.EnableKey(ctx, id, true); err != nil || !key.Enabled {
			t.Errorf("got %+v, %v", key, err)
		}
		rotated, err := client.RotateKey(ctx, id, time.Hour)
		if err != nil || rotated.Key == made[0].Key || !rotated.PreviousExpiresAt.Equal(h.clock.now().Add(time.Hour)) {
			t.Errorf("got %+v, %v", rotated, err)
		}
		if key, err = client.Key(ctx, id); err != nil || key.Hint != rotated.Hint {
			t.Errorf("got %+v, %v", key, err)
		}
		keys, total, err := client.SearchKeys(ctx, admin.KeySearch{Owner: "bob", Limit: 1})
		if err != nil || total != 2 || len(keys) != 1 || keys[0].ID != made[1].ID {
			t.Errorf("got %+v of %d, %v", keys, total, err)
		}
		if keys, total, err = client.SearchKeys(ctx, admin.KeySearch{Search: "renamed"}); err != nil || total != 1 || keys[0].ID != id {
			t.Errorf("got %+v of %d, %v", keys, total, err)
		}
		recorder.Record(made[1].ID, apikey.ReasonAllowed, h.clock.now())
		series, err := client.Usage(ctx, made[1].ID, "minute", time.Time{}, time.Time{})
		if err != nil || len(series.Points) != 60 || series.Points[59].Allowed != 1 {
			t.Errorf("got %+v, %v", series, err)
		}
		if state, err := client.Limit(ctx, id); err != nil || state.Limit != nil {
			t.Errorf("got %+v, %v", state, err)
		}
		explained, err := client.Explain(ctx, id, admin.ExplainRequest{IP: "10.1.2.3"})
		if err != nil || !explained.Allowed || len(explained.Steps) != 7 {
			t.Errorf("got %+v, %v", explained, err)
		}
		if deleted, err := client.DeleteKeys(ctx, []apikey.KeyID{id, made[1].ID}); err != nil || len(deleted) != 2 {
			t.Errorf("got %+v, %v", deleted, err)
		}
		_, err = client.Key(ctx, id)
		wantProblem(t, err, admin.CodeNotFound, "")
		events, err := client.Audit(ctx, admin.AuditQuery{Target: "key", TargetID: int64(id)})
		if err != nil || len(events) != 7 || events[0].Action != "key.delete" || events[0].Actor.Kind != "operator" {
			t.Errorf("got %+v, %v", events, err)
		}
		var lines strings.Builder
		if err := client.ExportAudit(ctx, admin.AuditQuery{Action: "key."}, &lines); err != nil || strings.Count(lines.String(), "\n") != 9 {
			t.Errorf("got %s, %v", lines.String(), err)
		}
	})
}

func TestOperatorPeople(t *testing.T) {
	overBoth(t, nil, func(t *testing.T, h *harness, client *admin.OperatorClient) {
		ctx := t.Context()
		role := "owner"
		user, err := client.UpdateUser(ctx, admin.UserChange{UserID: 2, Role: &role, Email: admin.Some("bob@example.com")})
		if err != nil || user.Role != "owner" || user.Email != "bob@example.com" {
			t.Errorf("got %+v, %v", user, err)
		}
		if deleted, err := client.DeleteUser(ctx, 1); err != nil || deleted.Name != "ada" {
			t.Errorf("got %+v, %v", deleted, err)
		}
		_, err = client.DeleteUser(ctx, 2)
		wantProblem(t, err, admin.CodeLastOwner, "")
		sent, err := client.Invite(ctx, admin.NewInvitation{Name: "eve"})
		if err != nil || !strings.Contains(sent.Link, "/accept-invitation#tki_") || sent.InvitedBy != "operator" || sent.Role != "member" {
			t.Errorf("got %+v, %v", sent, err)
		}
		invitations, err := client.ListInvitations(ctx)
		if err != nil || len(invitations) != 1 || invitations[0] != sent.Invitation {
			t.Errorf("got %+v, %v", invitations, err)
		}
		if err := client.RevokeInvitation(ctx, sent.ID); err != nil {
			t.Error(err)
		}
		wantProblem(t, client.RevokeInvitation(ctx, sent.ID), admin.CodeNotFound, "")
	})
}
