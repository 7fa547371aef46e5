package records

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// The fields of an event's record, whose place is the id.
const (
	eventAt         = 2  // number: Unix time in microseconds, zigzag
	eventKind       = 4  // text
	eventUser       = 6  // number
	eventName       = 8  // text
	eventAddress    = 10 // 4 or 16 bytes
	eventAction     = 12 // text
	eventTargetKind = 14 // text
	eventTargetID   = 16 // number
	eventTargetName = 18 // text
	eventChange     = 20 // three texts behind their lengths, once a change
)

func encodeEvent(event *store.Event) []byte {
	record := make([]byte, 1, 256)
	record[0] = recordFormat
	record = appendTime(record, eventAt, event.By.At)
	record = appendText(record, eventKind, string(event.By.Kind))
	record = appendNumber(record, eventUser, uint64(event.By.User))
	record = appendText(record, eventName, event.By.Name)
	record = appendAddress(record, eventAddress, event.By.Address)
	record = appendText(record, eventAction, string(event.Action))
	record = appendText(record, eventTargetKind, event.TargetKind)
	record = appendNumber(record, eventTargetID, uint64(event.TargetID))
	record = appendText(record, eventTargetName, event.TargetName)
	for _, change := range event.Changes {
		var value []byte
		for _, part := range []string{change.Field, change.From, change.To} {
			value = append(binary.AppendUvarint(value, uint64(len(part))), part...)
		}
		record = appendField(record, eventChange, value)
	}
	return record
}

func decodeEvent(record []byte) (*store.Event, error) {
	event := &store.Event{}
	err := eachField(record, func(f field) error { return setEventField(event, f) }, eventChange)
	if err == nil && (event.Action == "" || event.By.Kind == "") {
		err = fmt.Errorf("%w: an event without an action or actor", errRecord)
	}
	if err != nil {
		return nil, err
	}
	return event, nil
}

func setEventField(event *store.Event, f field) (err error) {
	var n uint64
	var written string
	switch f.tag {
	case eventAt:
		event.By.At, err = moment(f.value)
	case eventKind:
		written, err = text(f.value)
		event.By.Kind = store.ActorKind(written)
	case eventUser:
		n, err = positive(f.value)
		event.By.User = apikey.UserID(n)
	case eventName:
		event.By.Name, err = text(f.value)
	case eventAddress:
		event.By.Address, err = address(f.value)
	case eventAction:
		written, err = text(f.value)
		event.Action = store.Action(written)
	case eventTargetKind:
		event.TargetKind, err = text(f.value)
	case eventTargetID:
		n, err = positive(f.value)
		event.TargetID = int64(n)
	case eventTargetName:
		event.TargetName, err = text(f.value)
	case eventChange:
		return addChange(event, f.value)
	default:
		return unknownField(f.tag)
	}
	return err
}

func addChange(event *store.Event, value []byte) error {
	var change store.Change
	for _, part := range []*string{&change.Field, &change.From, &change.To} {
		length, n := shortUvarint(value)
		if n == 0 || length > uint64(len(value)-n) {
			return errRecord
		}
		end := n + int(length)
		if length > 0 {
			*part, _ = text(value[n:end])
		}
		value = value[end:]
	}
	if len(value) > 0 || change.Field == "" {
		return errRecord
	}
	event.Changes = append(event.Changes, change)
	return nil
}

// mayMatch reports whether a filter may describe the event of a record, without
// reading all of it: most events of a log are passed over. A record that cannot
// be read may, so that whoever reads it says so.
func mayMatch(filter *store.EventFilter, record []byte) bool {
	rest, err := fieldsOf(record)
	if err != nil {
		return true
	}
	var user, target uint64
	var name, action, kind []byte
	for after := uint64(0); len(rest) > 0; {
		var f field
		if f, rest, err = nextField(rest, after); err != nil {
			return true
		}
		after = f.tag
		switch f.tag {
		case eventUser:
			user, err = number(f.value)
		case eventName:
			name = f.value
		case eventAction:
			action = f.value
		case eventTargetKind:
			kind = f.value
		case eventTargetID:
			target, err = number(f.value)
		default:
			if f.tag > eventChange && f.tag%2 == 0 {
				return true
			}
		}
		if err != nil {
			return true
		}
	}
	return (filter.Actor == 0 || user == uint64(filter.Actor)) &&
		(filter.ActorName == "" || string(name) == filter.ActorName) &&
		(filter.ActionPrefix == "" || bytes.HasPrefix(action, []byte(filter.ActionPrefix))) &&
		(filter.TargetKind == "" || string(kind) == filter.TargetKind) &&
		(filter.TargetID == 0 || target == uint64(filter.TargetID))
}
