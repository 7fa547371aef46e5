// Package limit keeps the hourly limit of every key: in any 60 minutes at most
// N calls, whatever the schedule, and all N at once where the key has been
// idle.
//
//	limiter, err := limit.New(ctx, limit.Options{Journal: file.Limits()})
//	go limiter.Run(ctx)
//	result, err := limiter.Spend(ctx, key, time.Now())
//	...
//	err = limiter.Close(ctx) // after the last Spend
//
// # The bucket
//
// Every key has N tokens. A call takes one, and it comes back late: a key with
// a limit above 64 notes its calls by the minute, and a minute's tokens come
// back together when that whole minute is more than 60 minutes old, that is 60
// to 61 minutes after the call. A key with a limit of 64 or less notes each
// call by itself and gets its token back 60 minutes and at most two
// milliseconds later.
//
// Changing a key's limit keeps what was spent. A key without a limit spends
// nothing and notes nothing; what it had spent while it had one still comes
// back in its time.
//
// # Time
//
// A call's time is the reading of the clock that comes with it or, where the
// limiter has already looked at the key with a later one, that later one.
// Inside the process only the monotonic part of a reading counts: setting the
// wall clock means nothing. Across a restart the time that passed is taken
// from the wall clock, and is never negative; a wall clock that is set forward
// while the service is down, and only then, lets tokens return early by as
// much.
//
// # Crashes
//
// With a [Journal], calls are saved each second, many keys at once, and
// exactly at [Limiter.Close]. A process that is killed forgets what it had not
// saved, so that is bounded: once q = max(1, N/64) admitted calls of a key are
// not yet saved, further ones wait until they are. After an unclean stop every
// key pays q on its first call, as though it had made q calls in the moment
// the service came back. Together: never more than N, however often it is
// killed.
//
// The price, after an unclean stop and for the next 61 minutes, is q calls of
// each key; for a key with a limit of 1 that is its only one. A key that was
// created after the service came back pays nothing. The first call of a key
// that was created since the last save waits to be saved.
//
// What a crash can cost is bounded by q for the limit that a key had then. It
// pays q for the larger of the limit it now has and the last one that was
// saved with its calls. So where a limit is lowered between a crash and the
// key's first call since, or in the second before the crash, calls made under
// the old limit and forgotten may exceed what the key pays.
//
// [Fast] gives this up: no call ever waits and no key pays, but up to a second
// of calls may be forgotten by a crash, more while saving fails.
package limit
