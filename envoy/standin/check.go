package standin

import (
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// checkRequest words a request as Envoy does.
func (h *handler) checkRequest(p *passage) *authv3.CheckRequest {
	size := p.ContentLength
	request := &authv3.AttributeContext_HttpRequest{
		Id:     strconv.FormatUint(rand.Uint64(), 10),
		Method: p.Method, Path: p.path, Host: p.Host, Scheme: "http", Protocol: p.Proto, Size: size,
	}
	if h.options.EncodeRawHeaders {
		request.HeaderMap = &corev3.HeaderMap{}
	} else {
		request.Headers = map[string]string{}
	}
	for _, name := range h.options.CheckedHeaders() {
		values := p.Header.Values(name)
		if len(values) == 0 {
			continue
		}
		if !h.options.EncodeRawHeaders {
			request.Headers[name] = strings.ToValidUTF8(strings.Join(values, ","), "!")
			continue
		}
		for _, value := range values {
			request.HeaderMap.Headers = append(request.HeaderMap.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
		}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:      peer(addrPort(p.RemoteAddr)),
		Destination: peer(localAddrPort(localAddress(p.Request))),
		Request:     &authv3.AttributeContext_Request{Time: timestamppb.Now(), Http: request},
	}}
}

func addrPort(text string) netip.AddrPort {
	address, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
}

func localAddrPort(address net.Addr) netip.AddrPort {
	if address == nil {
		return netip.AddrPort{}
	}
	return addrPort(address.String())
}

func peer(address netip.AddrPort) *authv3.AttributeContext_Peer {
	return &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
		SocketAddress: &corev3.SocketAddress{
			Address:       address.Addr().String(),
			PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(address.Port())},
		},
	}}}
}

// action is what a mutation does to a header.
type action uint8

const (
	overwrite action = iota
	appendValue
	addIfAbsent
	overwriteIfExists
	remove
)

// mutation is one change of a header.
type mutation struct {
	name, value string
	action      action
}

func mutationsOf(options []*corev3.HeaderValueOption) []mutation {
	all := make([]mutation, len(options))
	for i, option := range options {
		value := option.GetHeader().GetValue()
		if value == "" {
			value = string(option.GetHeader().GetRawValue())
		}
		all[i] = mutation{name: option.GetHeader().GetKey(), value: value, action: actionOf(option)}
	}
	return all
}

func actionOf(option *corev3.HeaderValueOption) action {
	if old := option.GetAppend(); old != nil { //nolint:staticcheck // Envoy still reads it, and first
		if old.GetValue() {
			return appendValue
		}
		return overwrite
	}
	switch option.GetAppendAction() {
	case corev3.HeaderValueOption_ADD_IF_ABSENT:
		return addIfAbsent
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
		return overwriteIfExists
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		return overwrite
	default:
		return appendValue
	}
}

func apply(header http.Header, mutations []mutation) {
	for _, m := range mutations {
		exists := len(header.Values(m.name)) > 0
		switch {
		case m.action == remove:
			header.Del(m.name)
		case m.action == appendValue:
			header.Add(m.name, m.value)
		case m.action == addIfAbsent && exists, m.action == overwriteIfExists && !exists:
		default:
			header.Set(m.name, m.value)
		}
	}
}
