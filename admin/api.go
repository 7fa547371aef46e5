package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/tokenkithq/authz/store"
)

// api is one set of operations with its description.
type api struct {
	huma.API
	adapter *adapter
	service *service
	common  []string // codes that any operation can answer
	// base and keys are the paths below which operations stand, and those on
	// keys.
	base, keys string
	// operator is who does all that is asked for. Nil: whose session a request
	// carries.
	operator *caller
}

func newAPI(service *service, info huma.Info, common ...string) *api {
	routes := &adapter{mux: http.NewServeMux(), methods: map[string][]string{}, timeout: service.timeout}
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &info,
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			},
		},
		// "json" stands for every type that ends in +json, as problems do.
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{asProblem},
	}
	return &api{API: huma.NewAPI(config, routes), adapter: routes, service: service, common: common}
}

// asProblem turns what huma itself refuses, such as a bad query parameter,
// into a [Problem]. It drops the values that huma would send back.
func asProblem(_ huma.Context, _ string, value any) (any, error) {
	model, ok := value.(*huma.ErrorModel)
	if !ok {
		return value, nil
	}
	problem := newProblem(codeOf(model.Status))
	problem.Status, problem.Title = model.Status, http.StatusText(model.Status)
	for _, detail := range model.Errors {
		message := detail.Message
		if what, found := strings.CutPrefix(message, "invalid "); found {
			message = "expected a valid " + what
		}
		problem.Errors = append(problem.Errors, FieldProblem{Location: detail.Location, Message: message})
	}
	return problem, nil
}

func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return CodeInvalidJSON
	case http.StatusRequestTimeout:
		return CodeRequestTimeout
	case http.StatusRequestEntityTooLarge:
		return CodeBodyTooLarge
	case http.StatusUnsupportedMediaType:
		return CodeUnsupportedMediaType
	case http.StatusUnprocessableEntity:
		return CodeInvalidRequest
	default:
		return CodeInternal
	}
}

// operation is a [huma.Operation] to be completed by [register].
type operation struct {
	id, method, path, summary, description string
	status                                 int
	session                                bool // needs one
	// may says whose role allows the operation. Nil: everybody's.
	may   func(store.Role) bool
	codes []string
}

// register adds an operation. What every operation of its kind can answer is
// added to its codes.
func register[I, O any](a *api, op operation, handle func(context.Context, *I) (*O, error)) {
	full := huma.Operation{
		OperationID: op.id, Method: op.method, Path: op.path, Summary: op.summary, Description: op.description,
		DefaultStatus: op.status, SkipValidateBody: true, MaxBodyBytes: maxBody + 1, Responses: map[string]*huma.Response{},
		// By then readStrictly has read the body. A deadline for reading that
		// passed while the operation still worked would cancel the context of
		// the connection, and of all later requests on it.
		BodyReadTimeout: -1,
	}
	codes := slices.Concat(a.common, op.codes)
	if op.session {
		full.Middlewares = append(full.Middlewares, a.admit(op.may))
		codes = append(codes, CodeStorageUnavailable, CodeStorageDamaged)
		if a.operator == nil {
			full.Security = []map[string][]string{{"session": {}}, {"cookie": {}}}
			codes = append(codes, CodeUnauthenticated)
			if op.may != nil {
				codes = append(codes, CodeForbidden)
			}
		}
	}
	if op.method != http.MethodGet {
		codes = append(codes, CodeCrossOrigin)
	}
	if hasParameters[I]() {
		full.Middlewares = append(full.Middlewares, a.refuseEmpty)
		codes = append(codes, CodeInvalidRequest)
	}
	if hasBody[I]() {
		full.Middlewares = append(full.Middlewares, a.readStrictly)
		codes = append(codes, CodeInvalidJSON, CodeBodyTooLarge, CodeUnsupportedMediaType, CodeInvalidRequest, CodeRequestTimeout)
	}
	a.describe(&full, codes)
	huma.Register(a.API, full, func(ctx context.Context, input *I) (*O, error) {
		output, err := handle(ctx, input)
		if err != nil {
			return nil, a.refuse(ctx, op.id, err)
		}
		return output, nil
	})
}

// refuse returns the problem that stands for err, and logs what the client is
// not told.
func (a *api) refuse(ctx context.Context, operation string, err error) *Problem {
	problem, fault := problemFor(err)
	if fault {
		a.service.logger.ErrorContext(ctx, "request failed", "operation", operation, "code", problem.Code, "error", err)
	}
	return problem
}

// deny ends a request with the problem that stands for err.
func (a *api) deny(ctx huma.Context, err error) {
	_, w := humago.Unwrap(ctx)
	writeProblem(w, a.refuse(ctx.Context(), ctx.Operation().OperationID, err))
}

// admit admits the requests of whom may allows, with a live session unless they
// are the operator's.
func (a *api) admit(may func(store.Role) bool) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, _ := humago.Unwrap(ctx)
		by, err := a.callerOf(r, may)
		if err != nil {
			a.deny(ctx, err)
			return
		}
		next(huma.WithValue(ctx, callerKey, by))
	}
}

func (a *api) callerOf(r *http.Request, may func(store.Role) bool) (caller, error) {
	if a.operator != nil {
		return *a.operator, nil
	}
	by, err := a.service.authenticate(r.Context(), r)
	if err == nil && may != nil && !may(by.role) {
		err = newProblem(CodeForbidden)
	}
	return by, err
}

// humaContext can be embedded, as huma.Context cannot: the field would hide
// the method of that name.
type humaContext huma.Context

// readBody is a context whose body was read already.
type readBody struct {
	humaContext
	body io.Reader
}

func (b readBody) BodyReader() io.Reader { return b.body }

// Unwrap returns the context beneath, as [humago.Unwrap] expects.
func (b readBody) Unwrap() huma.Context { return b.humaContext }

// readStrictly admits a body that is JSON of the shape that the operation's
// description shows.
func (a *api) readStrictly(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	body, err := readJSON(w, r)
	if err != nil {
		a.deny(ctx, err)
		return
	}
	value, problem := parseStrict(body)
	if problem != nil {
		a.deny(ctx, problem)
		return
	}
	check := checker{registry: a.OpenAPI().Components.Schemas}
	check.check(ctx.Operation().RequestBody.Content["application/json"].Schema, "body", value)
	if len(check.faults) > 0 {
		a.deny(ctx, newProblem(CodeInvalidRequest, check.faults...))
		return
	}
	// huma compares the type to the letter, and would refuse capitals.
	r.Header.Set("Content-Type", "application/json")
	next(readBody{ctx, bytes.NewReader(body)})
}

// readJSON reads the body of r, at most [maxBody] bytes of what is declared as
// plain JSON in UTF-8.
func readJSON(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	media, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset, hasCharset := parameters["charset"]
	if err != nil || media != "application/json" || len(r.Header.Values("Content-Type")) > 1 ||
		hasCharset && !strings.EqualFold(charset, "utf-8") || r.Header.Get("Content-Encoding") != "" {
		return nil, newProblem(CodeUnsupportedMediaType)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, newProblem(CodeBodyTooLarge)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, newProblem(CodeRequestTimeout)
	case err != nil:
		return nil, newProblem(CodeInvalidJSON, FieldProblem{Location: "body", Message: "expected the whole body to arrive"})
	}
	return body, nil
}

// describe documents every status that the codes stand for.
func (a *api) describe(op *huma.Operation, codes []string) {
	schema := a.OpenAPI().Components.Schemas.Schema(problemGoType, true, "Problem")
	slices.Sort(codes)
	for _, code := range slices.Compact(codes) {
		status, detail := statusOf(code)
		key := strconv.Itoa(status)
		response := op.Responses[key]
		if response == nil {
			response = &huma.Response{
				Content: map[string]*huma.MediaType{problemType: {Schema: schema}},
				Headers: map[string]*huma.Param{},
			}
			for name := range newProblem(code).GetHeaders() {
				response.Headers[name] = &huma.Param{Schema: &huma.Schema{Type: huma.TypeString}}
			}
			if code == CodeTooManyAttempts {
				response.Headers["Retry-After"] = &huma.Param{Schema: &huma.Schema{Type: huma.TypeString}}
			}
			op.Responses[key] = response
		} else {
			response.Description += "\n\n"
		}
		response.Description += fmt.Sprintf("`%s`: %s", code, detail)
	}
}

var problemGoType = reflect.TypeFor[Problem]()

func hasBody[I any]() bool {
	_, found := reflect.TypeFor[I]().FieldByName("Body")
	return found
}
