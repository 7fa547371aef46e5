// Package extauthz answers Envoy's external authorization calls
// (envoy.service.auth.v3.Authorization/Check) for API keys.
//
// A [Server] reads a request from a Check, asks an [Authorizer] and writes the
// answer in Envoy's terms:
//
//	authorizer, err := extauthz.NewAuthorizer(extauthz.AuthorizerOptions{
//		Keys: cache, Limiter: limiter, Blocker: table,
//	})
//	server, err := extauthz.NewServer(authorizer, extauthz.Options{})
//	grpcServer := extauthz.NewGRPCServer(server)
//
// An [Observer] hears of each Check, for metrics, logs and traces.
//
// Everything that decides is local: a Check that finds its key in memory waits
// for nothing.
package extauthz
