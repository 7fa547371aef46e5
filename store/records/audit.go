package records

import (
	"context"
	"errors"

	"github.com/tokenkithq/authz/store"
)

// pruneStep is how many old events go with a new one at most, where more are
// kept than may be.
const pruneStep = 64

// note appends an event to the audit log. It is part of the change that the
// event tells of.
func (s *Store) note(tx Tx, event *store.Event) error {
	id, err := nextID[int64](tx, EventsBucket)
	if err != nil {
		return err
	}
	if err := tx.Put(EventsBucket, idKey(id), encodeEvent(event)); err != nil {
		return err
	}
	if s.events == 0 {
		return nil
	}
	count, err := tx.Count(EventsBucket)
	if err != nil || count <= s.events {
		return err
	}
	excess := min(count-s.events, pruneStep)
	err = tx.Scan(EventsBucket, nil, func(place, _ []byte) error {
		if excess == 0 {
			return errStop
		}
		excess--
		return tx.Delete(EventsBucket, place)
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// AppendEvent implements [store.Audit]. It returns an [*apikey.FieldError] for
// an event that is not valid.
func (s *Store) AppendEvent(ctx context.Context, event *store.Event) error {
	if event.ID != 0 {
		return failed("noting an event", idGiven("id", int64(event.ID)))
	}
	if err := event.Validate(); err != nil {
		return failed("noting an event", err)
	}
	kept := event.Stored()
	return failed("noting an event", s.engine.Update(ctx, func(tx Tx) error { return s.note(tx, kept) }))
}

// ListEvents implements [store.Audit]. It reads backwards from the newest
// event and stops when it has enough; a filter that describes few of them
// reads the whole log.
func (s *Store) ListEvents(ctx context.Context, filter store.EventFilter) ([]*store.Event, error) {
	var events []*store.Event
	err := s.engine.View(ctx, func(tx Tx) error {
		if s.first {
			return nil
		}
		size := filter.Size()
		return eachEventBackwards(ctx, tx, filter.Before, func(id uint64, record []byte) error {
			if !mayMatch(&filter, record) {
				return nil
			}
			event, err := eventOf(id, record)
			if err != nil {
				return err
			}
			if filter.Matches(event) {
				events = append(events, event)
			}
			if len(events) == size {
				return errStop
			}
			return nil
		})
	})
	if err != nil && !errors.Is(err, errStop) {
		return nil, failed("listing events", err)
	}
	return events, nil
}

// eachEventBackwards calls fn with the records of events below an id, or with all where it
// is zero, by descending id. Ids follow each other but for what is older than
// all events, so going down by one finds each.
func eachEventBackwards(ctx context.Context, tx Tx, before uint64, fn func(id uint64, record []byte) error) error {
	oldest, found, err := oldestEvent(tx)
	if err != nil || !found {
		return err
	}
	last, err := tx.Sequence(EventsBucket)
	if err != nil {
		return err
	}
	if before == 0 || before > last {
		before = last + 1
	}
	for id := before - 1; id >= oldest && id > 0; id-- {
		if id%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		record, err := tx.Get(EventsBucket, idKey(int64(id)))
		if err != nil {
			return err
		}
		if record == nil {
			continue
		}
		if err := fn(id, record); err != nil {
			return err
		}
	}
	return nil
}

func oldestEvent(tx Tx) (id uint64, found bool, err error) {
	err = tx.Scan(EventsBucket, nil, func(place, _ []byte) error {
		oldest, err := idAt[int64](place)
		if err != nil {
			return err
		}
		id, found = uint64(oldest), true
		return errStop
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return id, found, err
}

func eventOf(id uint64, record []byte) (*store.Event, error) {
	event, err := decodeEvent(record)
	if err != nil {
		return nil, unreadable("event", int64(id), err)
	}
	event.ID = id
	return event, nil
}

// eachEvent calls fn with all events by ascending id.
func eachEvent(ctx context.Context, tx Tx, fn func(*store.Event) error) error {
	return scan(ctx, tx, EventsBucket, nil, func(place, record []byte) error {
		id, err := idAt[int64](place)
		if err != nil {
			return err
		}
		event, err := eventOf(uint64(id), record)
		if err != nil {
			return err
		}
		return fn(event)
	})
}
