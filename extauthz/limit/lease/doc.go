// Package lease keeps the hourly limit of every key exactly for many replicas
// together: in any 60 minutes all of them allow at most N calls of a key, and
// nearly all N at once, while most calls are decided without the network.
//
//	limiter, err := lease.New(lease.Options{Engine: engine})
//	go limiter.Run(ctx)
//	result, err := limiter.Spend(ctx, key, time.Now())
//	...
//	err = limiter.Close(ctx) // after the last Spend; then close the engine
//
// An [Engine] holds one [Account] for each key. A replica leases tokens of it
// and spends them by itself. A lease ends after [Options].Span; what was not
// used of it is given back. Leases follow how fast a key's tokens are taken, and
// the next is asked for before the last is used up or ends. All replicas
// together hold up to a 50th of the limit, each the same part of it; one at
// which a key is busy holds what it needs for ten seconds, up to a 50th of the
// limit by itself, where a 50th is at least five tokens for each replica. Near the
// end of the limit leases get smaller: about half of what is left is leased,
// to each replica by its part of what was leased lately. A limit so
// small that its part is less than two tokens is spent
// from the engine directly, many calls in one exchange where many wait.
//
// # Why at most N calls
//
// The engine's clock stands for the time, in minutes. A lease of k tokens that
// is granted at g is charged at once, to the minute of its end, g + span. A
// minute's tokens return when the current minute is 61 ahead.
//
// Let a and t be the times of the first and the last call of some closed span
// of 60 minutes, and m(x) the minute of x. Every call was made before its lease
// ended, so it is charged to a minute of at least m(a) >= m(t)-60. Look at the
// last grant that any of these calls used: it was made at some g <= t, so m(g)
// <= m(t), and none of the minutes from m(t)-60 on had returned. Thus all
// tokens of all these calls were out when it was made; and it was only made
// because they are at most N together. The price is that tokens come back 60
// to 62 minutes after their call, and for small limits 60 to 61 minutes and
// five seconds.
//
// # Clocks
//
// A replica takes a lease as begun when it sent its request, which is before
// the engine granted it, and as ended after 19 parts in 20 of its span, by its
// monotonic or by its wall clock, whichever says so first. So clocks need not
// agree on the time, only run equally fast to a twentieth. Each call is checked
// by its own reading; a process that was stopped and goes on finds its leases
// ended, and one on a machine that slept does by the wall clock.
//
// An account's time never goes back. It also never runs ahead of what the
// asking replica can believe, by the engine's clock as it has seen it and the
// time that passed since: a failover to a machine whose clock is fast does not
// return tokens early, as long as the replicas that ask have seen the former
// machine's. Tokens are charged by the engine's own clock all the same, as far as it
// can be true should the replica's clock be slow by a twentieth: otherwise they would return
// too early to a replica whose clock is not.
//
// # Crashes
//
//   - A replica that dies takes the unused tokens of its leases with it; they
//     return as though used. Nothing is spent twice, for all was charged
//     before it was used.
//   - An exchange whose answer is lost may have granted a lease. It is not
//     used but given back, under its number: giving back a second time, or
//     what was not granted, does nothing.
//   - A replica that is cut off spends what it holds until that ends.
//   - An engine returns a grant only once it cannot forget it. So whatever it
//     forgets was never used, and what it forgets of giving back only makes
//     tokens return later.
//   - Should an engine forget grants all the same, then an account finds that
//     its generation changed, or that a replica has seen more of it, and the
//     key pays: q = max(1, N/64) in the first case, what is missing and q in
//     the second, and all of N where the account is gone. This makes good what
//     the replicas that still live can know of; it cannot prove more.
//
// Where a limit is lowered, a replica that still has the old limit may use what
// it leased under it, until its copy of the key is renewed.
package lease
