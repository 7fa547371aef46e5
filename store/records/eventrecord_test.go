package records

import (
	"reflect"
	"testing"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"pgregory.net/rapid"
)

var drawEvent = rapid.Custom(func(t *rapid.T) *store.Event {
	event := &store.Event{
		By: store.Actor{
			Kind: rapid.SampledFrom([]store.ActorKind{store.ActorUser, store.ActorOperator, store.ActorSystem}).Draw(t, "kind"),
			User: apikey.UserID(rapid.Int64Range(0, 1<<62).Draw(t, "user")), Name: rapid.StringN(0, 50, -1).Draw(t, "name"),
			Address: drawAddress.Draw(t, "address"), At: drawTime.Draw(t, "at"),
		},
		Action: store.Action(rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "action")), TargetKind: rapid.StringMatching(`[a-z]{0,9}`).Draw(t, "target"),
		TargetID: rapid.Int64Range(0, 1<<62).Draw(t, "target id"), TargetName: rapid.StringN(0, 50, -1).Draw(t, "target name"),
	}
	text := rapid.StringN(0, 300, -1)
	for range rapid.IntRange(0, 4).Draw(t, "changes") {
		event.Changes = append(event.Changes, store.Change{Field: rapid.StringN(1, 20, -1).Draw(t, "field"), From: text.Draw(t, "from"), To: text.Draw(t, "to")})
	}
	return event
})

func TestEventRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := drawEvent.Draw(t, "event")
		record := encodeEvent(event)
		decoded, err := decodeEvent(record)
		if err != nil || !reflect.DeepEqual(decoded, event) {
			t.Fatalf("got %+v, %v, want %+v", decoded, err, event)
		}
		for i := range record {
			record[i] ^= 0xff
		}
		if !reflect.DeepEqual(decoded, event) {
			t.Fatal("the event changed with its record")
		}
	})
}

// A record that is passed over is none that the filter describes.
func TestPassedOverEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := drawEvent.Draw(t, "event")
		other := drawEvent.Draw(t, "other")
		if rapid.Bool().Draw(t, "same") {
			other = event
		}
		var filter store.EventFilter
		for _, set := range []func(){
			func() { filter.Actor = other.By.User }, func() { filter.ActorName = other.By.Name },
			func() { filter.ActionPrefix = string(other.Action[:1]) }, func() { filter.TargetKind = other.TargetKind }, func() { filter.TargetID = other.TargetID },
		} {
			if rapid.Bool().Draw(t, "set") {
				set()
			}
		}
		if got, want := mayMatch(&filter, encodeEvent(event)), filter.Matches(event); got != want {
			t.Fatalf("%+v of %+v: got %v, want %v", filter, event, got, want)
		}
	})
	for _, record := range [][]byte{{}, {recordFormat, 2, 99}, {9}, appendField(encodeEvent(&store.Event{By: store.Actor{Kind: "user"}, Action: "x"}), 1000, []byte{1})} {
		if !mayMatch(&store.EventFilter{ActorName: "nobody"}, record) {
			t.Errorf("%x is passed over, though it cannot be read", record)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(encodeEvent(drawEvent.Example(1)))
	f.Add(encodeEvent(drawEvent.Example(9)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, record []byte) {
		event, err := decodeEvent(record)
		if err != nil {
			return
		}
		if again, err := decodeEvent(encodeEvent(event)); err != nil || !reflect.DeepEqual(again, event) {
			t.Fatalf("%x was decoded as %+v, and again as %+v, %v", record, event, again, err)
		}
	})
}
