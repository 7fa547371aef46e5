// Package shared keeps blocked addresses for many replicas: failures are
// counted together, and an address that is blocked by one is blocked by all.
//
//	table, err := shared.New(shared.Options{Table: local, Backend: client.Blocks()})
//	go table.Run(ctx)
//
// A [Table] stands before a [block.Table], which it fills with what the others
// know, so that asking whether an address is blocked never needs the network.
// A failure is told to the [Backend], which counts those of all replicas in
// one window, by its own clock; the call waits for the answer, up to
// [Options].Wait, so that the failure that makes an address blocked is the one
// that is logged and no later attempt passes anywhere: it also waits, up to
// [Options.Settle], until the other replicas have heard of the block. They do at
// once, and within a second where the message is lost.
//
// Where answers come later than that, because the backend is slow or somebody
// fails very often, nobody waits: failures are counted here at once, and those
// of all replicas once the answer is there.
//
// While the backend is away failures are counted by each replica for itself,
// and blocks that are known stay: an address may then fail up to nine times at
// each replica before it is blocked there. What was counted meanwhile is not
// told later.
package shared
