package admin

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// Problem is a refusal in the form of RFC 9457. The operator client returns
// it as an error too.
type Problem struct {
	Title  string         `json:"title" doc:"What the status means, in words that do not vary."`
	Status int            `json:"status" doc:"The HTTP status." minimum:"400" maximum:"599"`
	Code   string         `json:"code" doc:"What went wrong, stable and meant for programs." example:"invalid_request"`
	Detail string         `json:"detail,omitempty" doc:"What went wrong, for people. It may be reworded."`
	Errors []FieldProblem `json:"errors,omitempty" nullable:"false" doc:"The fields at fault, where the request was."`

	retryAfter time.Duration
}

// FieldProblem says which part of a request is wrong and what was expected.
type FieldProblem struct {
	Location string `json:"location" doc:"Where the fault is." example:"body.allowed_ips[2]"`
	Message  string `json:"message" doc:"What was expected."`
}

// The codes of problems. Each stands for one status.
const (
	CodeInvalidJSON          = "invalid_json"
	CodeUnauthenticated      = "unauthenticated"
	CodeInvalidCredentials   = "invalid_credentials"
	CodeCrossOrigin          = "cross_origin"
	CodeForbidden            = "forbidden"
	CodeNotFound             = "not_found"
	CodeMethodNotAllowed     = "method_not_allowed"
	CodeRequestTimeout       = "request_timeout"
	CodeAlreadyExists        = "already_exists"
	CodeInUse                = "in_use"
	CodeLastOwner            = "last_owner"
	CodeConflict             = "conflict"
	CodeBodyTooLarge         = "body_too_large"
	CodeUnsupportedMediaType = "unsupported_media_type"
	CodeMisdirected          = "misdirected_request"
	CodeInvalidRequest       = "invalid_request"
	CodeTooManyAttempts      = "too_many_attempts"
	CodeInternal             = "internal_error"
	CodeStorageDamaged       = "storage_damaged"
	CodeNotImplemented       = "not_implemented"
	CodeBusy                 = "busy"
	CodeNotReady             = "not_ready"
	CodeStorageUnavailable   = "storage_unavailable"
	CodeStorageFull          = "storage_full"
)

// statusOf returns the status and the usual detail of a code.
func statusOf(code string) (status int, detail string) {
	switch code {
	case CodeInvalidJSON:
		return http.StatusBadRequest, "The body is not one JSON object in UTF-8 with each field given once."
	case CodeUnauthenticated:
		return http.StatusUnauthorized, "A valid session is required: send Authorization: Bearer with the token of a login that has not ended."
	case CodeInvalidCredentials:
		return http.StatusUnauthorized, "The user name or the password is wrong."
	case CodeCrossOrigin:
		return http.StatusForbidden, "Web pages of another origin may not make this request."
	case CodeForbidden:
		return http.StatusForbidden, "Your role does not allow that."
	case CodeNotFound:
		return http.StatusNotFound, "There is no such thing, or it belongs to somebody else."
	case CodeMethodNotAllowed:
		return http.StatusMethodNotAllowed, "This address does not answer to that method; the Allow header lists those it does."
	case CodeRequestTimeout:
		return http.StatusRequestTimeout, "The request did not arrive in time."
	case CodeAlreadyExists:
		return http.StatusConflict, "The name or address is taken."
	case CodeInUse:
		return http.StatusConflict, "The user still owns keys; delete these first."
	case CodeLastOwner:
		return http.StatusConflict, "Nobody else is an owner; make somebody one first."
	case CodeConflict:
		return http.StatusConflict, "It was changed meanwhile; look again before you change it."
	case CodeBodyTooLarge:
		return http.StatusRequestEntityTooLarge, "The body is larger than 64 KiB."
	case CodeUnsupportedMediaType:
		return http.StatusUnsupportedMediaType, "The body must be sent as Content-Type: application/json, in UTF-8 and not compressed."
	case CodeMisdirected:
		return http.StatusMisdirectedRequest, "This server does not answer to that host name."
	case CodeInvalidRequest:
		return http.StatusUnprocessableEntity, "The request breaks a rule; errors names the fields."
	case CodeTooManyAttempts:
		return http.StatusTooManyRequests, "Too many failed logins for this user or from this address; wait as Retry-After says."
	case CodeStorageDamaged:
		return http.StatusInternalServerError, "Stored data is damaged; the server's operator must look at it."
	case CodeNotImplemented:
		return http.StatusNotImplemented, "This server was not set up for that."
	case CodeBusy:
		return http.StatusServiceUnavailable, "The server is busy; try again as Retry-After says."
	case CodeNotReady:
		return http.StatusServiceUnavailable, "The server is not ready."
	case CodeStorageUnavailable:
		return http.StatusServiceUnavailable, "The storage did not confirm in time. A change may still have been made: look before trying again."
	case CodeStorageFull:
		return http.StatusInsufficientStorage, "There is no space left for the change."
	default:
		return http.StatusInternalServerError, "The server failed; its log says why."
	}
}

func newProblem(code string, fields ...FieldProblem) *Problem {
	status, detail := statusOf(code)
	p := &Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail, Errors: fields}
	if status == http.StatusServiceUnavailable {
		p.retryAfter = time.Second
	}
	return p
}

// invalidField is the problem of one field whose location is under the body.
func invalidField(field, message string) *Problem {
	return newProblem(CodeInvalidRequest, FieldProblem{Location: "body." + field, Message: message})
}

// Error returns the code, the detail and the fields.
func (p *Problem) Error() string {
	text := p.Code
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	for _, field := range p.Errors {
		text += " " + field.Location + ": " + field.Message + "."
	}
	return text
}

// GetStatus returns the HTTP status; huma asks for it.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the media type of problems; huma asks for it.
func (p *Problem) ContentType(string) string { return problemType }

// GetHeaders returns the headers that go with the status; huma asks for them.
func (p *Problem) GetHeaders() http.Header {
	headers := http.Header{}
	if p.Status == http.StatusUnauthorized {
		headers.Set("WWW-Authenticate", `Bearer realm="tokenkit"`)
	}
	if p.retryAfter > 0 {
		seconds := int64((p.retryAfter + time.Second - 1) / time.Second)
		headers.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	return headers
}

const problemType = "application/problem+json"

// problemFor returns what the client is told of err, and whether err is a
// fault of the server that the log should explain.
func problemFor(err error) (problem *Problem, fault bool) {
	var field *apikey.FieldError
	switch {
	case errors.As(err, &problem):
		return problem, false
	case errors.Is(err, store.ErrDamaged):
		return newProblem(CodeStorageDamaged), true
	case errors.Is(err, store.ErrFull):
		return newProblem(CodeStorageFull), true
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrClosed), errors.Is(err, context.DeadlineExceeded):
		return newProblem(CodeStorageUnavailable), true
	case errors.Is(err, context.Canceled):
		return newProblem(CodeStorageUnavailable), false
	case errors.Is(err, store.ErrExists):
		return newProblem(CodeAlreadyExists), false
	case errors.Is(err, store.ErrInUse):
		return newProblem(CodeInUse), false
	case errors.Is(err, store.ErrLastOwner):
		return newProblem(CodeLastOwner), false
	case errors.Is(err, store.ErrConflict):
		return newProblem(CodeConflict), false
	case errors.Is(err, store.ErrNotFound):
		return newProblem(CodeNotFound), false
	case errors.As(err, &field):
		return invalidField(field.Field, field.Err.Error()), false
	default:
		return newProblem(CodeInternal), true
	}
}
