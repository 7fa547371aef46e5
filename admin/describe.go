package admin

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed docs.html
var docsPage string

// docsPolicy lets the page of the description use its own style sheet and
// nothing else.
const docsPolicy = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

//go:embed docs.css
var docsStyle []byte

// serveDescription serves the OpenAPI description of all that is registered,
// under path with .json and .yaml, and at /docs as a page that loads nothing
// from elsewhere. They are written when they are first asked for: most programs
// that set an API up never are.
func (a *api) serveDescription(path string) {
	// huma describes its own errors too, which never leave this package.
	schemas := a.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	a.serveStatic(path+".json", "application/openapi+json", "", func() ([]byte, error) { return json.MarshalIndent(a.OpenAPI(), "", "  ") })
	a.serveStatic(path+".yaml", "application/openapi+yaml", "", a.OpenAPI().YAML)
	a.serveStatic("/docs", "text/html; charset=utf-8", docsPolicy, func() ([]byte, error) { return renderDocs(a.OpenAPI(), path+".json") })
	a.serveStatic("/docs.css", "text/css; charset=utf-8", "", func() ([]byte, error) { return docsStyle, nil })
}

func (a *api) serveStatic(pattern, mediaType, policy string, content func() ([]byte, error)) {
	content = sync.OnceValues(content)
	a.adapter.mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
		body, err := content()
		if err != nil {
			writeProblem(w, a.refuse(r.Context(), "describe", fmt.Errorf("writing the API description: %w", err)))
			return
		}
		w.Header().Set("Content-Type", mediaType)
		if policy != "" {
			w.Header().Set("Content-Security-Policy", policy)
		}
		_, _ = w.Write(body)
	})
	a.adapter.methods[pattern] = append(a.adapter.methods[pattern], http.MethodGet)
}

// documented is an operation as the page shows it.
type documented struct {
	Method, Path, Summary, Description string
	Session                            bool
	Parameters, Fields                 []documentedField
	Answers                            []documentedAnswer
}

type documentedField struct {
	Name, Kind, Text string
	Required         bool
}

type documentedAnswer struct{ Status, Text string }

func renderDocs(description *huma.OpenAPI, source string) ([]byte, error) {
	page, err := template.New("docs").Parse(docsPage)
	if err != nil {
		return nil, err
	}
	var operations []documented
	for path, item := range description.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Patch} {
			if op != nil {
				operations = append(operations, documentedOf(description, path, op))
			}
		}
	}
	slices.SortFunc(operations, func(a, b documented) int { return strings.Compare(a.Path+a.Method, b.Path+b.Method) })
	var out bytes.Buffer
	err = page.Execute(&out, map[string]any{"Info": description.Info, "Operations": operations, "Source": source})
	return out.Bytes(), err
}

func documentedOf(description *huma.OpenAPI, path string, op *huma.Operation) documented {
	shown := documented{
		Method: op.Method, Path: path, Summary: op.Summary, Description: op.Description, Session: len(op.Security) > 0,
	}
	for _, parameter := range op.Parameters {
		shown.Parameters = append(shown.Parameters, documentedField{parameter.Name, kindOfSchema(parameter.Schema), parameter.Description, parameter.Required})
	}
	if op.RequestBody != nil {
		schema := op.RequestBody.Content["application/json"].Schema
		for schema.Ref != "" {
			schema = description.Components.Schemas.SchemaFromRef(schema.Ref)
		}
		for _, name := range sortedNames(schema) {
			property := schema.Properties[name]
			shown.Fields = append(shown.Fields, documentedField{name, kindOfSchema(property), property.Description, slices.Contains(schema.Required, name)})
		}
	}
	for status, response := range op.Responses {
		shown.Answers = append(shown.Answers, documentedAnswer{status, strings.ReplaceAll(response.Description, "`", "")})
	}
	slices.SortFunc(shown.Answers, func(a, b documentedAnswer) int { return strings.Compare(a.Status, b.Status) })
	return shown
}

func kindOfSchema(schema *huma.Schema) string {
	switch {
	case schema.Items != nil && schema.Items.Type != "":
		return schema.Type + " of " + schema.Items.Type
	case schema.Items != nil:
		return schema.Type + " of object"
	}
	return schema.Type
}
