package deadletters

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

func TestAFilterNamesEveryMistake(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	_, err := Query{Group: "notfy", State: "gone", Reason: "bad luck", Since: "yesterday"}.Filter(o.topology, failedAt)
	for _, want := range []string{"group", "notify", "state", "reason", "since"} {
		if err == nil || !errors.Is(err, ErrQuery) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want that it names %s", err, want)
		}
	}
	if _, err := (Query{Since: "1m", Until: "1h"}).Filter(o.topology, failedAt); !errors.Is(err, ErrQuery) {
		t.Errorf("an empty span: %v", err)
	}
}

// One line a cause: what waits behind a letter belongs to that letter's cause, and keys are blocked only in groups that keep their order.
func TestCauses(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.park(events.GroupInventory, "o1")
	o.park(events.GroupInventory, "o1", behind)
	o.park(events.GroupInventory, "o1", behind)
	newest := o.park(events.GroupInventory, "o2", because(deadletter.ReasonExhausted, "f1", "no room at all"))
	o.park(events.GroupInventory, "o3", because(deadletter.ReasonSchema, "f2", "no sku"))
	o.park(events.GroupNotify, "o1", because(deadletter.ReasonPermanent, "f3", "550"))
	causes, err := o.Causes(t.Context(), deadletter.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if len(causes) != 3 {
		t.Fatalf("got %+v, want three causes", causes)
	}
	c := causes[0]
	if c.Group != events.GroupInventory || c.Fingerprint != "f1" || c.Count != 2 || c.Waiting != 2 || c.Keys != 2 || c.BlockedKeys != 2 ||
		c.Error != "no room at all" || c.Example != newest.ID || !c.Oldest.Before(c.Newest) {
		t.Errorf("the first cause is %+v", c)
	}
	if c := causes[2]; c.Group != events.GroupNotify || c.BlockedKeys != 0 {
		t.Errorf("notify is independent, and its cause %+v", c)
	}
	only, err := o.Causes(t.Context(), deadletter.Filter{Fingerprint: "f1"})
	if err != nil || len(only) != 1 || only[0].Waiting != 2 {
		t.Errorf("with a filter: %+v, %v: want the one cause with what waits behind it", only, err)
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	l := o.park(events.GroupNotify, "o1")
	if _, err := o.Note(t.Context(), l.ID, "ann", "asked the provider"); err != nil {
		t.Fatal(err)
	}
	d, err := o.Show(t.Context(), l.ID)
	if err != nil {
		t.Fatal(err)
	}
	if d.Gone || d.State != deadletter.StateDead || d.Error != "no room" || d.Note != "asked the provider" || !json.Valid(d.Payload.JSON) || d.Original != nil ||
		len(d.History) != 1 || d.History[0].By != "ann" || d.Headers["ce-id"][0] != l.EventID {
		t.Errorf("got %+v", d)
	}
	o.owner(l, deadletter.StateReplaying, deadletter.ActionClaim)
	o.owner(l, deadletter.StateResolved, deadletter.ActionResolve)
	if d, err = o.Show(t.Context(), l.ID); err != nil || !d.Gone || d.State != deadletter.StateResolved || len(d.History) != 3 {
		t.Errorf("after it was resolved: %+v, %v", d, err)
	}
	if d.Payload.Missing == "" {
		t.Errorf("the event is not in ORDERS, and the payload %+v does not say so", d.Payload)
	}
	var page bytes.Buffer
	if err := d.Print(&page); err != nil || !strings.Contains(page.String(), "asked the provider") || !strings.Contains(page.String(), "replaying -> resolved") {
		t.Errorf("%v\n%s", err, page.String())
	}
	if _, err := o.Show(t.Context(), "notify:ORDERS:99"); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("a letter that never was: %v", err)
	}
}

func TestReadablePayloads(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Payload{
		`{"a":1}`:     {Size: 7, JSON: json.RawMessage(`{"a":1}`)},
		`{"a":`:       {Size: 5, Text: `{"a":`},
		"\xff\x00":    {Size: 2, Base64: "/wA="},
		"a\x1b[2Jb":   {Size: 6, Base64: "YRtbMkpi"}, // would act on a terminal
		"":            {},
		"two\nlines":  {Size: 9, Text: "two\nlines"},
		`"\u001b[2J"`: {Size: 11, JSON: json.RawMessage(`"\u001b[2J"`)},
	} {
		got := readable([]byte(in))
		if got.Size != want.Size || !bytes.Equal(got.JSON, want.JSON) || got.Text != want.Text || got.Base64 != want.Base64 {
			t.Errorf("%q: got %+v, want %+v", in, got, want)
		}
	}
}

func TestEdit(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	l := o.park(events.GroupNotify, "o1")
	v, err := o.Edit(t.Context(), l.ID, Correction{Patch: []byte(`[{"op":"add","path":"/reason","value":"typo"}]`)}, "ann", "customer asked")
	if err != nil || !v.Edited {
		t.Fatalf("%+v, %v", v, err)
	}
	d, err := o.Show(t.Context(), l.ID)
	if err != nil || !strings.Contains(string(d.Payload.JSON), "typo") || d.Original == nil || strings.Contains(string(d.Original.JSON), "typo") ||
		d.History[0].Edit == nil || d.History[0].Why != "customer asked" {
		t.Errorf("%+v, %v", d, err)
	}
	for name, c := range map[string]Correction{
		"no patch":            {Patch: []byte(`{"op":"add"}`)},
		"a patch that is off": {Patch: []byte(`[{"op":"remove","path":"/nothing"}]`)},
	} {
		if _, err := o.Edit(t.Context(), l.ID, c, "ann", "x"); !errors.Is(err, ErrPatch) {
			t.Errorf("%s: %v, want ErrPatch", name, err)
		}
	}
	if _, err := o.Edit(t.Context(), l.ID, Correction{Data: []byte(`{"order_id":7}`)}, "ann", "x"); !errors.Is(err, deadletter.ErrNotEditable) {
		t.Errorf("against the schema: %v, want ErrNotEditable", err)
	}
}
