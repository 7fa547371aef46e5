package telemetry

import (
	"github.com/tokenkithq/authz/extauthz/block/shared"
	"github.com/tokenkithq/authz/store/etcd"
)

func storeReplicaGroup(stats func() etcd.Stats) *group {
	fresh := gauge("store_replica_fresh_seconds", "For how long this replica goes on answering if it does not reach the store from now on. 0: it answers nothing.")
	revision := gauge("store_replica_revision", "Revision of the store that this replica knows. One that stays behind others is late.")
	keys := gauge("store_replica_keys", "Keys that this replica holds.")
	replicas := gauge("store_replica_replicas", "Replicas that are registered at the store.")
	damaged := gauge("store_replica_damaged_records", "Records of the store that cannot be read.")
	interruptions := counter("store_replica_interruptions_total", "Times that following the store was interrupted, by what followed: resumed, relisted where all was read again, or registered where this replica's registration had ended.", "what")
	reports := counter("store_replica_reports_total", "Times that this replica told the others up to where it knows the store.")
	again := counter("store_replica_retries_total", "Changes that were tried again, by cause: conflict where another came before, unanswered where the store gave no answer.", "cause")
	return &group{[]*metric{fresh, revision, keys, replicas, damaged, interruptions, reports, again}, func(send sender) {
		s := stats()
		send(fresh, s.Fresh.Seconds())
		send(revision, float64(s.Revision))
		send(keys, float64(s.Keys))
		send(replicas, float64(s.Replicas))
		send(damaged, float64(s.Damaged))
		send(interruptions, float64(s.Restarts), "resumed")
		send(interruptions, float64(s.Relists), "relisted")
		send(interruptions, float64(s.Registrations), "registered")
		send(reports, float64(s.Reports))
		send(again, float64(s.Conflicts), "conflict")
		send(again, float64(s.Doubtful), "unanswered")
	}}
}

func sharedBlockGroup(stats func() shared.Stats) *group {
	failing := gauge("shared_block_failing", "1 while the engine of shared blocks does not answer, else 0.")
	waiting := gauge("shared_block_waiting", "Failures of addresses that wait to be counted for all replicas.")
	failures := counter("shared_block_failures_total", "Failures of addresses by where they were counted: by all replicas together, or by this one alone.", "counted")
	unanswered := counter("shared_block_unanswered_total", "Failures that this replica counted alone for want of an answer, by cause: late, or full where too many waited.", "cause")
	changes := counter("shared_block_changes_total", "Blocks and unblocks that this replica heard of.")
	unsettled := counter("shared_block_unsettled_total", "Blocks and unblocks of which not all replicas knew in time.")
	errors := counter("shared_block_errors_total", "Exchanges with the engine of shared blocks that failed.")
	return &group{[]*metric{failing, waiting, failures, unanswered, changes, unsettled, errors}, func(send sender) {
		s := stats()
		send(failing, oneIf(s.Failing))
		send(waiting, float64(s.Waiting))
		send(failures, float64(s.Told), "together")
		send(failures, float64(s.Alone), "alone")
		send(unanswered, float64(s.Late), "late")
		send(unanswered, float64(s.Overflows), "full")
		send(changes, float64(s.Changes))
		send(unsettled, float64(s.Unsettled))
		send(errors, float64(s.Errors))
	}}
}
