// Package redis keeps shared limits in Redis 7 or Valkey: one server, one that
// Sentinel watches over, or a Cluster.
//
//	client, err := redis.Open(ctx, redis.Options{Addresses: []string{"redis:6379"}})
//	limiter, err := lease.New(lease.Options{Engine: client})
//	...
//	client.Close() // after the limiter
//
// Every API key is one hash, whose name carries the key's number as hash tag,
// and which vanishes two hours after its last use. A request is one call of a
// script that does what [lease.Account] does. Time is that of the server.
//
// # What the server must be told
//
// A grant is used as soon as it is answered, so the server must not forget
// what it answered. There are two ways to that, and [Open] refuses a server
// that has neither, unless [Options].AllowLoss is set:
//
//   - "appendonly yes" with "appendfsync always", and without
//     "no-appendfsync-on-rewrite yes": the server answers once the grant is on
//     its disk. It may crash and start again, but not be replaced.
//   - [Options].Replicas: so many of the server's replicas have the grant
//     before it is used (WAIT). With as many as there are, whichever takes over
//     has every grant that was used; where one lacks it no more is granted until
//     it is back. With fewer, a failover may choose one that lags.
//
// Sentinel and Cluster replace servers, so where they have replicas the second
// is needed. A server that was replaced but does not know it is no danger: its
// replicas follow another, and none confirms what it grants.
//
// In both cases "maxmemory-policy noeviction" is needed: another policy forgets
// accounts. The settings are looked at again whenever another server, or the
// same after a restart, answers first. They cannot be seen where CONFIG is
// forbidden, as some hosted servers do; that is logged as a warning.
//
// FLUSHALL, a server that loses its disk, or one whose clock is set ahead
// while no replica of this service knows it, are beyond what is promised; see
// package lease for how much of that is made good.
package redis
