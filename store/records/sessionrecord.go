package records

import (
	"fmt"
	"net/netip"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// The fields of a session's record, whose place is the id.
const (
	sessionUser       = 2  // number
	sessionCreatedAt  = 4  // number: Unix time in microseconds, zigzag
	sessionExpiresAt  = 6  // the same
	sessionLastSeenAt = 7  // the same
	sessionAddress    = 9  // 4 or 16 bytes
	sessionUserAgent  = 11 // text
)

func encodeSession(session *store.Session) []byte {
	record := appendNumber([]byte{recordFormat}, sessionUser, uint64(session.User))
	record = appendTime(record, sessionCreatedAt, session.CreatedAt)
	record = appendTime(record, sessionExpiresAt, session.ExpiresAt)
	record = appendTime(record, sessionLastSeenAt, session.LastSeenAt)
	record = appendAddress(record, sessionAddress, session.Address)
	return appendText(record, sessionUserAgent, session.UserAgent)
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
		case sessionLastSeenAt:
			session.LastSeenAt, err = moment(f.value)
		case sessionAddress:
			session.Address, err = address(f.value)
		case sessionUserAgent:
			session.UserAgent, err = text(f.value)
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

func appendAddress(record []byte, tag uint64, addr netip.Addr) []byte {
	if !addr.IsValid() {
		return record
	}
	return appendField(record, tag, addr.AsSlice())
}

func address(value []byte) (netip.Addr, error) {
	addr, ok := netip.AddrFromSlice(value)
	if !ok || addr.Is4In6() {
		return netip.Addr{}, errRecord
	}
	return addr, nil
}

// The fields of an invitation's record, whose place is the id.
const (
	invitationName      = 2  // text
	invitationEmail     = 4  // text
	invitationRole      = 6  // as userRole
	invitationCreatedAt = 8  // as sessionCreatedAt
	invitationExpiresAt = 10 // as sessionCreatedAt
	invitationBy        = 11 // text
)

func encodeInvitation(invitation *store.Invitation) []byte {
	record := appendText([]byte{recordFormat}, invitationName, invitation.Name)
	record = appendText(record, invitationEmail, invitation.Email)
	record = appendNumber(record, invitationRole, roleNumber(invitation.Role))
	record = appendTime(record, invitationCreatedAt, invitation.CreatedAt)
	record = appendTime(record, invitationExpiresAt, invitation.ExpiresAt)
	return appendText(record, invitationBy, invitation.InvitedBy)
}

func decodeInvitation(record []byte) (*store.Invitation, error) {
	invitation := &store.Invitation{}
	err := eachField(record, func(f field) (err error) {
		switch f.tag {
		case invitationName:
			invitation.Name, err = text(f.value)
		case invitationEmail:
			invitation.Email, err = text(f.value)
		case invitationRole:
			invitation.Role, err = roleAt(f.value)
		case invitationCreatedAt:
			invitation.CreatedAt, err = moment(f.value)
		case invitationExpiresAt:
			invitation.ExpiresAt, err = moment(f.value)
		case invitationBy:
			invitation.InvitedBy, err = text(f.value)
		default:
			err = unknownField(f.tag)
		}
		return err
	})
	if err == nil && invitation.Name == "" {
		err = fmt.Errorf("%w: an invitation without a name", errRecord)
	}
	if err != nil {
		return nil, err
	}
	return invitation, nil
}
