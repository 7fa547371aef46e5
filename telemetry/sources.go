package telemetry

import (
	"runtime"
	"time"

	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/limit"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/usage"
)

func buildGroup(version string) *group {
	info := gauge("build_info", "1, with the version of the program and of Go.", "version", "goversion")
	return &group{[]*metric{info}, func(send sender) { send(info, 1, version, runtime.Version()) }}
}

func cacheGroup(stats func() store.CacheStats) *group {
	searches := counter("cache_searches_total", "Searches for keys by outcome: hit, absent_hit (known to belong to no key), miss (read from the store), shared (waited for the reading of another).", "outcome")
	evictions := counter("cache_evictions_total", "Cached keys that made room for others.")
	entries := gauge("cache_entries", "What is cached now, by kind: key, or absent for a hash that belongs to no key.", "kind")
	return &group{[]*metric{searches, evictions, entries}, func(send sender) {
		s := stats()
		send(searches, float64(s.Hits), "hit")
		send(searches, float64(s.AbsentHits), "absent_hit")
		send(searches, float64(s.Misses), "miss")
		send(searches, float64(s.Shared), "shared")
		send(evictions, float64(s.Evictions))
		send(entries, float64(s.Keys), "key")
		send(entries, float64(s.Absent), "absent")
	}}
}

func limitGroup(stats func() limit.Stats) *group {
	keys := gauge("limit_keys", "Keys whose hourly limit is in memory.")
	capacity := gauge("limit_capacity", "How many keys' hourly limits fit in memory.")
	denied := counter("limit_denied_total", "Calls that the limiter denied, by cause: spent, or full where it had no room for another key.", "cause")
	waits := counter("limit_waits_total", "Calls that waited for their saving, by result: saved, or failed where it did not come in time.", "result")
	charged := counter("limit_charged_calls_total", "Calls that keys paid for unclean stops.")
	unclean := gauge("limit_unclean_stops", "Unclean stops that the state file has seen in all.")
	saves := newSaves("limit", "the hourly limits")
	return &group{append(saves.metrics(), keys, capacity, denied, waits, charged, unclean), func(send sender) {
		s := stats()
		send(keys, float64(s.Keys))
		send(capacity, float64(s.Capacity))
		send(denied, float64(s.Denied), "spent")
		send(denied, float64(s.Full), "full")
		send(waits, float64(s.Waits-min(s.Waits, s.WaitErrors)), "saved")
		send(waits, float64(s.WaitErrors), "failed")
		send(charged, float64(s.Charged))
		send(unclean, float64(s.Unclean))
		saves.send(send, s.Saves, s.SaveErrors, s.LastSave)
	}}
}

func sharedLimitGroup(stats func() lease.Stats) *group {
	keys := gauge("shared_limit_keys", "Keys of whose shared limit this replica knows.")
	capacity := gauge("shared_limit_capacity", "How many keys' shared limits fit in memory.")
	replicas := gauge("shared_limit_replicas", "Replicas among which leases are shared out.")
	failing := gauge("shared_limit_failing", "1 while the engine does not answer, else 0.")
	exchanges := counter("shared_limit_exchanges_total", "Requests to the engine of shared limits, by result: answered, or failed where no answer came.", "result")
	batches := counter("shared_limit_batches_total", "Messages to the engine, each with one or more requests.")
	tokens := counter("shared_limit_tokens_total", "Calls of limits, by what became of them: leased to this replica, returned by it without use, or charged where the engine may have forgotten leases.", "what")
	denied := counter("shared_limit_denied_total", "Calls that the limiter denied, by cause: spent, or full where it had no room for another key.", "cause")
	waits := counter("shared_limit_waits_total", "Calls that waited for the engine, by result: answered, or failed where it did not answer in time.", "result")
	opened := counter("shared_limit_opened_total", "Calls that passed undecided while the engine was away, where the settings let them.")
	return &group{[]*metric{keys, capacity, replicas, failing, exchanges, batches, tokens, denied, waits, opened}, func(send sender) {
		s := stats()
		send(keys, float64(s.Keys))
		send(capacity, float64(s.Capacity))
		send(replicas, float64(s.Replicas))
		send(failing, oneIf(s.Failing))
		send(exchanges, float64(s.Exchanges-min(s.Exchanges, s.Errors)), "answered")
		send(exchanges, float64(s.Errors), "failed")
		send(batches, float64(s.Batches))
		send(tokens, float64(s.Leased), "leased")
		send(tokens, float64(s.Returned), "returned")
		send(tokens, float64(s.Charged), "charged")
		send(denied, float64(s.Denied), "spent")
		send(denied, float64(s.Full), "full")
		send(waits, float64(s.Waits-min(s.Waits, s.WaitErrors)), "answered")
		send(waits, float64(s.WaitErrors), "failed")
		send(opened, float64(s.Opened))
	}}
}

func blockGroup(stats func() block.Stats) *group {
	blocked := gauge("blocked_addresses", "Addresses that are blocked now.")
	watched := gauge("block_addresses", "Addresses with failures in their window, blocked ones among them.")
	capacity := gauge("block_capacity", "How many addresses fit in memory.")
	total := counter("blocks_total", "Times that an address became blocked.")
	evicted := counter("block_evictions_total", "Addresses whose failures were forgotten to make room for others.")
	uncounted := counter("block_uncounted_total", "Failures that did not count, by cause: full, exempt for addresses that are never blocked, unknown for calls whose address is not known.", "cause")
	saves := newSaves("block", "the blocked addresses")
	return &group{append(saves.metrics(), blocked, watched, capacity, total, evicted, uncounted), func(send sender) {
		s := stats()
		send(blocked, float64(s.Blocked))
		send(watched, float64(s.Addresses))
		send(capacity, float64(s.Capacity))
		send(total, float64(s.Blocks))
		send(evicted, float64(s.Evicted))
		send(uncounted, float64(s.Refused), "full")
		send(uncounted, float64(s.Exempted), "exempt")
		send(uncounted, float64(s.Unknown), "unknown")
		saves.send(send, s.Saves, s.SaveErrors, s.LastSave)
	}}
}

// saves are the metrics of what is written each second.
type saves struct{ total, last *metric }

func newSaves(prefix, what string) saves {
	return saves{
		counter(prefix+"_saves_total", "Attempts to save "+what+", by result: saved or failed.", "result"),
		gauge(prefix+"_last_save_timestamp_seconds", "When "+what+" were last saved, in Unix time. 0: not yet."),
	}
}

func (s saves) metrics() []*metric { return []*metric{s.total, s.last} }

func (s saves) send(send sender, saved, failed uint64, last time.Time) {
	send(s.total, float64(saved), "saved")
	send(s.total, float64(failed), "failed")
	at := 0.0
	if !last.IsZero() {
		at = float64(last.UnixMilli()) / 1000
	}
	send(s.last, at)
}

func usageGroup(stats func() usage.Stats) *group {
	waiting := gauge("usage_waiting", "Pairs of key and minute whose usage is not written yet.")
	unfolded := gauge("usage_unfolded", "Pairs of key and minute that are written but not in their key's history yet.")
	dropped := counter("usage_dropped_total", "Calls whose usage was not counted for want of room.")
	failures := counter("usage_write_failures_total", "Attempts to write usage that failed.")
	return &group{[]*metric{waiting, unfolded, dropped, failures}, func(send sender) {
		s := stats()
		send(waiting, float64(s.Waiting))
		send(unfolded, float64(s.Unfolded))
		send(dropped, float64(s.Dropped))
		send(failures, float64(s.Failures))
	}}
}

func decisionLogGroup(stats func() DecisionLogStats) *group {
	lines := counter("decision_log_lines_total", "Lines of the decision log by result: written, failed, or dropped where too much was waiting.", "result")
	waiting := gauge("decision_log_waiting_bytes", "What of the decision log is not written yet.")
	return &group{[]*metric{lines, waiting}, func(send sender) {
		s := stats()
		send(lines, float64(s.Written), "written")
		send(lines, float64(s.Failed), "failed")
		send(lines, float64(s.Dropped), "dropped")
		send(waiting, float64(s.Waiting))
	}}
}

func tracesGroup(stats func() TracesStats) *group {
	spans := counter("trace_spans_total", "Spans by result: sent, or failed where the collector did not take them.", "result")
	return &group{[]*metric{spans}, func(send sender) {
		s := stats()
		send(spans, float64(s.Sent), "sent")
		send(spans, float64(s.Failed), "failed")
	}}
}

func lastUsedGroup(stats func() store.LastUsedStats) *group {
	waiting := gauge("last_used_waiting", "Keys whose last use is not written yet.")
	dropped := counter("last_used_dropped_total", "Uses that were not noted for want of room.")
	return &group{[]*metric{waiting, dropped}, func(send sender) {
		s := stats()
		send(waiting, float64(s.Waiting))
		send(dropped, float64(s.Dropped))
	}}
}

// ConnectionStats are counts of connections that clients opened, by the name of
// what they were opened to.
type ConnectionStats struct {
	Refused map[string]uint64 // closed at once, since there were too many
	Slowed  map[string]uint64 // read later, since their address opened many
	// Unanswered are those for Check calls that were read more slowly, since
	// they opened many streams that were never answered.
	Unanswered uint64
}

func connectionGroup(stats func() ConnectionStats) *group {
	refused := counter("connections_refused_total", "Connections that were closed at once, since there were too many, by listener.", "listener")
	slowed := counter("connections_slowed_total", "Connections that were read later, since their address opened many, by listener.", "listener")
	unanswered := counter("connections_unanswered_total", "Connections for Check calls that were read more slowly, since they opened many streams that were never answered.")
	return &group{[]*metric{refused, slowed, unanswered}, func(send sender) {
		s := stats()
		for name, n := range s.Refused {
			send(refused, float64(n), name)
		}
		for name, n := range s.Slowed {
			send(slowed, float64(n), name)
		}
		send(unanswered, float64(s.Unanswered))
	}}
}

// oneIf is how a gauge says yes or no.
func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
