// Package etcd keeps shared limits and blocks in etcd 3.5 or later.
//
//	engine, err := etcd.Open(ctx, client, etcd.Options{})
//	limiter, err := lease.New(lease.Options{Engine: engine})
//	blocks, err := shared.New(shared.Options{Table: table, Backend: engine.Blocks(etcd.BlockOptions{})})
//	...
//	engine.Close() // after the limiter and the blocks, before the client
//
// Every API key's [lease.Account] is one record. A request reads it, works out
// what becomes of it and writes it if nobody else did meanwhile; otherwise it
// does so again. etcd answers once most of its members have the record on
// disk, so it forgets nothing that was granted. Every exchange is a write to
// all of its members: keys that are used much are better kept in Redis.
//
// # Blocks
//
// Failures are events, which each replica writes and all read, in the one order
// that etcd gives them. What is counted and who is blocked follows from them,
// so that all replicas come to the same without a second write. An event has all
// failures since the last one. A replica writes twenty at once and then ten a
// second at most, however many failures there are; a failure that waits longer
// than [shared.Options].Wait for its turn is counted by this replica at once,
// and by all a moment later.
//
// # The clock
//
// etcd tells no time, and the clocks of replicas may differ. So the time is a
// record too, in milliseconds, which replicas set forward by what passed for
// them since they last saw it. One that has not seen it for three seconds takes
// what is there, and forgets what passed for itself. So time advances while a
// replica runs, never faster than real time, and stands still while none does:
// tokens then return later, by as much.
//
// Two replicas that see the record every three seconds differ by at most six
// and what their messages take. Where an exchange cannot see the record in time
// it fails, and leases are charged to a minute [Options].Lag later than they
// would be, which makes good for the difference.
//
// A cluster that was restored from a backup has forgotten grants. It has a new
// number, by which accounts tell and keys are charged, see package lease.
package etcd
