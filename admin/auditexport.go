package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/tokenkithq/authz/store"
)

const (
	jsonLines = "application/jsonl"
	// exportTime bounds an export, which may be slower than other answers.
	exportTime = 10 * time.Minute
)

// registerExport adds the export of the audit log. It is registered for its
// parameters as any operation is, and handled by hand, since an operation of
// huma would be ended after the time that other requests have.
func (s *service) registerExport(a *api, path string) {
	op := huma.Operation{
		OperationID: "export-audit", Method: http.MethodGet, Path: path, Summary: "Export the audit log",
		Description: "Streams what list-audit lists, all pages of it, as JSON Lines. An export that breaks off ends the connection before the answer is whole.",
		Responses: map[string]*huma.Response{"200": {
			Description: "One event in each line, the newest first.", Content: map[string]*huma.MediaType{jsonLines: {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
		Middlewares: huma.Middlewares{a.admit(maySeeAll), a.refuseEmpty},
	}
	codes := []string{CodeInvalidRequest, CodeStorageUnavailable, CodeStorageDamaged}
	if a.operator == nil {
		op.Security = []map[string][]string{{"session": {}}, {"cookie": {}}}
		codes = append(codes, CodeUnauthenticated, CodeForbidden)
	}
	a.describe(&op, slices.Concat(a.common, codes))
	huma.Register(a.API, op, func(ctx context.Context, query *AuditQuery) (*huma.StreamResponse, error) {
		filter, err := s.auditFilter(ctx, callerFrom(ctx), query)
		if err != nil {
			return nil, a.refuse(ctx, "export-audit", err)
		}
		filter.Limit = store.MaxEvents
		events, err := s.store.ListEvents(ctx, filter)
		if err != nil {
			return nil, a.refuse(ctx, "export-audit", err)
		}
		return &huma.StreamResponse{Body: func(streamed huma.Context) {
			_, w := humago.Unwrap(streamed)
			s.export(context.WithoutCancel(ctx), w, filter, events, query.Limit)
		}}, nil
	})
}

// export writes events and all that follow them, at most limit where that is
// not zero.
func (s *service) export(ctx context.Context, w http.ResponseWriter, filter store.EventFilter, events []*store.Event, limit int) {
	ctx, cancel := context.WithTimeout(ctx, exportTime)
	defer cancel()
	// Writers that have no deadline say so, which is as good.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(exportTime))
	w.Header().Set("Content-Type", jsonLines)
	w.Header().Set("Content-Disposition", `attachment; filename="audit.jsonl"`)
	lines := json.NewEncoder(w)
	written := 0
	for len(events) > 0 {
		for _, event := range events {
			if limit > 0 && written == limit {
				return
			}
			if err := lines.Encode(eventOf(event)); err != nil {
				return // the client left
			}
			written++
		}
		if len(events) < filter.Size() {
			return
		}
		filter.Before = events[len(events)-1].ID
		var err error
		if events, err = s.store.ListEvents(ctx, filter); err != nil {
			s.logger.ErrorContext(ctx, "exporting the audit log", "error", fmt.Errorf("listing events: %w", err))
			// The client must not take the beginning of an export for one.
			panic(http.ErrAbortHandler)
		}
	}
}
