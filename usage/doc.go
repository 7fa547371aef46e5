// Package usage counts what each key does: how many of its calls were allowed
// and why the others were not, by minute, hour and day.
//
//	file, err := usagefile.Open(ctx, path, usagefile.Options{})
//	recorder, err := usage.New(ctx, usage.Options{Journal: file})
//	go recorder.Run(ctx)
//	recorder.Record(key.ID, decision.Reason, time.Now())
//	points, err := recorder.Series(ctx, key.ID, usage.Hour, from, to)
//	...
//	err = recorder.Close(ctx) // after the last Record
//	err = file.Close()
//
// # What is counted when
//
// A call belongs to the minute, hour and day, in UTC, of the time it is
// recorded with, whatever was recorded before. So a clock that is set back or
// far ahead moves the calls that are made meanwhile, and nothing else.
//
// [Recorder.Series] counts every call that was recorded before it, written or
// not, and each call once. How long counts are kept is for the [Journal] to
// say.
//
// # Writing behind
//
// [Recorder.Record] adds to memory and never waits for a disk. Twice a second
// [Recorder.Run] appends what is new to a log, all of it or nothing; about once
// a minute it folds the log into the history of each key, a bounded number of
// keys at a time, and removes the folded part of the log. Entries and folds
// carry ascending numbers, and a history says up to which of them it counts:
// whenever a process is killed, no call that was logged is lost or counted
// twice, and what is lost is at most what was recorded since the last entry,
// that is about half a second and the time that one write takes.
//
// While the disk takes nothing, counts stay in memory, up to
// [Options.Capacity] pairs of key and minute. What does not fit is dropped and
// counted in [Stats].
package usage
