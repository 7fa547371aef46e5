package admin

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// hasParameters reports whether an operation takes any from its path or query.
func hasParameters[I any]() bool {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[I]()) {
		if field.Tag.Get("path") != "" || field.Tag.Get("query") != "" {
			return true
		}
	}
	return false
}

// refuseEmpty refuses empty parameters of a query that stand for no value of
// theirs; huma takes them for absent ones.
func (a *api) refuseEmpty(ctx huma.Context, next func(huma.Context)) {
	asked := ctx.URL()
	query := asked.Query()
	var faults []FieldProblem
	for _, parameter := range ctx.Operation().Parameters {
		values, given := query[parameter.Name]
		schema := parameter.Schema
		mayBeEmpty := schema.Type == huma.TypeString && schema.Format == "" && schema.Enum == nil
		if parameter.In == "query" && given && values[0] == "" && !mayBeEmpty {
			faults = append(faults, FieldProblem{Location: "query." + parameter.Name, Message: "expected a value, got none"})
		}
	}
	if len(faults) > 0 {
		a.deny(ctx, newProblem(CodeInvalidRequest, faults...))
		return
	}
	next(ctx)
}

// linkKeys says in the description of an answer that shows a key, at this
// place of its body, which operations take its id.
func (a *api) linkKeys(path, method, status, place string) {
	item := a.OpenAPI().Paths[path]
	links := map[string]*huma.Link{}
	for _, target := range a.OpenAPI().Paths {
		for _, op := range []*huma.Operation{target.Get, target.Post, target.Patch} {
			if op != nil && len(op.Parameters) > 0 && op.Parameters[0].Name == "key_id" && op.Parameters[0].In == "path" {
				links[op.OperationID] = &huma.Link{OperationID: op.OperationID, Parameters: map[string]any{"key_id": "$response.body#" + place}}
			}
		}
	}
	op := map[string]*huma.Operation{"GET": item.Get, "POST": item.Post}[method]
	op.Responses[status].Links = links
}
