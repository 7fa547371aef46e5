// Package conformance is one table of what a front with tokenkit-authz does,
// for every proxy that may stand there: what the client is answered, what the
// upstream sees, and that it sees nothing of what is denied.
//
// A caller says how to start the service, in an [Env], and gets a [Result] for
// each case:
//
//	results := conformance.Run(ctx, env, conformance.Groups())
//
// Keys are made through the front, as users do. Requests are written to the
// connection byte by byte, so that repeated headers, odd paths and bytes that
// no client library lets pass are sent as they stand in the table. Each case
// comes from a loopback address of its own, since failures block addresses.
package conformance
