package etcd

import (
	"sync/atomic"
	"time"
)

type counters struct {
	conflicts, doubtful, restarts, relists, registrations, reports atomic.Uint64
}

// Stats says how a [Store] is doing.
type Stats struct {
	Revision int64 // of etcd, up to which this replica has come
	Keys     int   // that are held
	Replicas int   // that are registered, this one among them
	Damaged  int   // records that cannot be read
	// Fresh is for how long this replica can go on without etcd. Zero: it
	// answers nothing.
	Fresh time.Duration

	Conflicts     uint64 // changes that were decided again, since another came before
	Doubtful      uint64 // requests for a change that etcd did not answer
	Restarts      uint64 // times that following etcd was interrupted
	Relists       uint64 // times that all was read again, since etcd had forgotten the past
	Registrations uint64 // times that the registration had ended and was made again
	Reports       uint64 // times that this replica told the others how far it has come
}

// Stats returns the present figures, and the counts since the store was opened.
func (s *Store) Stats() Stats {
	e := s.engine
	present := e.present()
	stats := Stats{
		Revision: present.revision, Keys: present.trees[keys].Len(), Replicas: len(present.replicas),
		Fresh:     max(0, time.Duration(e.validUntil.Load())-time.Since(e.began)),
		Conflicts: e.stats.conflicts.Load(), Doubtful: e.stats.doubtful.Load(), Restarts: e.stats.restarts.Load(),
		Relists: e.stats.relists.Load(), Registrations: e.stats.registrations.Load(), Reports: e.stats.reports.Load(),
	}
	for _, n := range present.unread {
		stats.Damaged += n
	}
	return stats
}
