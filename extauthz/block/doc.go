// Package block keeps the addresses that failed too often from trying again.
//
//	table, err := block.New(ctx, block.Options{Journal: file.Blocks()})
//	go table.Run(ctx)
//	if left, blocked := table.Blocked(addr, now); blocked { ... }
//	table.Failed(addr, apikey.ReasonUnknownKey, now)
//	...
//	err = table.Close(ctx)
//
// The first failure of an address opens a window of five minutes. The tenth
// failure in the window blocks the address until the window closes; attempts
// while it is blocked do not prolong that. The first failure after it closed
// opens another. What counts as a failure is the caller's business.
//
// An address is an IPv4 address, also where it comes mapped into IPv6, or the
// /64 of an IPv6 address: whoever has one address of a /64 usually has all of
// them. An invalid [netip.Addr], that of a client which is not known, is never
// blocked and never counted, for unknown clients are not one client. Nor is an
// address of [Options].Never.
//
// The table has a fixed size, in which blocked addresses come first: where it
// is full, the unblocked address whose window is oldest makes room for a new
// one, and where all are blocked a new one is turned away, neither counted nor
// blocked. Both happen within one of 256 equal parts of the table, among which
// addresses are spread by a secret hash.
//
// Time is the monotonic part of the readings that come in, never the wall
// clock; across a restart it is the wall clock's, but never goes back.
//
// With a [Journal], blocks are saved as soon as they begin or are lifted, in
// the background, and windows each second. In a flood of new addresses only so
// many windows are saved each second, and what a crash then costs is that some
// addresses start over with fewer failures.
package block
