// Package scale simulates many replicas that share the limits of millions of
// keys: the limiter itself, over an engine whose network, failures and clock
// are modelled, in time that passes as fast as it can be computed.
//
// It counts what the exact log of all allowed calls says: calls over a limit,
// of which there must be none, calls that were denied though the limit would
// have allowed them, and what all of it costs the engine and each replica.
// `make scale` runs it; docs/scaling.md holds what came out.
package scale
