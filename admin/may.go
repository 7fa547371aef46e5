package admin

import (
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// What roles may do.

func mayChangeKeys(role store.Role) bool { return role != store.RoleViewer }
func maySeeAll(role store.Role) bool     { return role >= store.RoleViewer }
func mayManageAll(role store.Role) bool  { return role >= store.RoleAdmin }
func mayRule(role store.Role) bool       { return role == store.RoleOwner }

// sees returns whose keys the caller may look at: zero stands for all.
func (c caller) sees() apikey.UserID {
	if maySeeAll(c.role) {
		return 0
	}
	return c.user
}

// manages returns whose keys the caller may change: zero stands for all. Of a
// viewer it is nobody's, since operations that change keys do not admit one.
func (c caller) manages() apikey.UserID {
	if mayManageAll(c.role) {
		return 0
	}
	return c.user
}
