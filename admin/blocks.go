package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// BlockInfo is a blocked address or network.
type BlockInfo struct {
	Address  string    `json:"address" doc:"An IPv4 address or an IPv6 network."`
	Failures int       `json:"failures" doc:"Failures that led to the block."`
	Reason   string    `json:"reason" doc:"Of the last failure." example:"unknown_key"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until" doc:"When the block ends by itself."`
}

type unblockRequest struct {
	Address string `json:"address" minLength:"1" maxLength:"64" doc:"An address, or a network as the list of blocks shows it."`
}

// registerBlocks adds the operations on blocked addresses that both APIs have.
func registerBlocks(a *api, s *service, path string) {
	register(a, operation{
		id: "list-blocks", method: http.MethodGet, path: path, summary: "List the blocked addresses", session: true, may: maySeeAll,
		codes: []string{CodeNotImplemented},
	}, func(ctx context.Context, _ *nothing) (*list[BlockInfo], error) {
		return listed(s.listBlocks(ctx))
	})
	register(a, operation{
		id: "unblock", method: http.MethodPost, path: path + "remove/", summary: "Unblock an address and forget its failures", session: true, may: mayManageAll,
		status: http.StatusNoContent, codes: []string{CodeNotFound, CodeNotImplemented, CodeStorageFull},
	}, func(ctx context.Context, request *input[unblockRequest]) (*nothing, error) {
		return nil, s.unblock(ctx, callerFrom(ctx).actor, request.Body.Address)
	})
}

func (s *service) listBlocks(ctx context.Context) ([]BlockInfo, error) {
	if s.blocks == nil {
		return nil, newProblem(CodeNotImplemented)
	}
	blocked, err := s.blocks.ListBlocks(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing blocked addresses: %w", err)
	}
	infos := make([]BlockInfo, len(blocked))
	for i, block := range blocked {
		infos[i] = BlockInfo{
			apikey.FormatAddressPrefix(block.Prefix), block.Failures, block.Reason.String(), block.Since.UTC(), block.Until.UTC(),
		}
	}
	return infos, nil
}

func (s *service) unblock(ctx context.Context, by actor, address string) error {
	if s.blocks == nil {
		return newProblem(CodeNotImplemented)
	}
	prefix, err := apikey.ParseAddressPrefix(address)
	if err != nil {
		return invalidField("address", err.Error())
	}
	found, err := s.blocks.Unblock(ctx, prefix.Addr())
	if err != nil {
		return fmt.Errorf("unblocking an address: %w", err)
	}
	if !found {
		return newProblem(CodeNotFound)
	}
	s.log(ctx, by, "address unblocked", "blocked", prefix)
	event := store.Event{
		By: by.audited(s.now()), Action: store.ActionUnblock, TargetKind: store.TargetAddress, TargetName: apikey.FormatAddressPrefix(prefix),
	}
	if err := s.store.AppendEvent(ctx, &event); err != nil {
		return fmt.Errorf("writing to the audit log that an address was unblocked: %w", err)
	}
	return nil
}
