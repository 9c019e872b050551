package events_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

func TestDecodeJSONReadsWhatOthersWrite(t *testing.T) {
	t.Parallel()
	base := events.Event{ID: "1", Source: "/x", Type: "t"}
	for _, c := range []struct {
		name, members string
		want          func(e *events.Event)
	}{
		{"the least", ``, func(*events.Event) {}},
		{"JSON data as it stands", `"data":{"a": [1, 2.50]}`, func(e *events.Event) { e.Data = []byte(`{"a": [1, 2.50]}`) }},
		{"a JSON string is JSON", `"data":"text"`, func(e *events.Event) { e.Data = []byte(`"text"`) }},
		{"data null is JSON too", `"data":null`, func(e *events.Event) { e.Data = []byte(`null`) }},
		{"text of another type", `"datacontenttype":"text/plain","data":"say \"ah\""`, func(e *events.Event) {
			e.DataContentType, e.Data = "text/plain", []byte(`say "ah"`)
		}},
		{"a +json type", `"datacontenttype":"application/vnd.shop+json; charset=utf-8","data":"x"`, func(e *events.Event) {
			e.DataContentType, e.Data = "application/vnd.shop+json; charset=utf-8", []byte(`"x"`)
		}},
		{"bytes", `"datacontenttype":"image/png","data_base64":"AAEC"`, func(e *events.Event) {
			e.DataContentType, e.Data = "image/png", []byte{0, 1, 2}
		}},
		{"null is absent", `"subject":null,"time":null,"tenant":null,"data_base64":null,"sequence":null`, func(*events.Event) {}},
		{"extensions of each kind", `"tenant":"london","trial":true,"rank":-3`, func(e *events.Event) {
			e.Extensions = map[string]string{"tenant": "london", "trial": "true", "rank": "-3"}
		}},
		{"our own extensions", `"correlationid":"c","causationid":"b","partitionkey":"k","sequence":"0000000012"`, func(e *events.Event) {
			e.CorrelationID, e.CausationID, e.PartitionKey, e.Version = "c", "b", "k", 12
		}},
		{"a time with an offset", `"time":"2011-03-31T10:00:00.250+01:00"`, func(e *events.Event) {
			e.Time = time.Date(2011, 3, 31, 9, 0, 0, 250_000_000, time.UTC)
		}},
		{"trace context", `"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tracestate":"a=b"`, func(e *events.Event) {
			e.TraceParent, e.TraceState = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=b"
		}},
		{"percent signs are no encoding here", `"subject":"100%41 €"`, func(e *events.Event) { e.Subject = "100%41 €" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			body := `{"specversion":"1.0","id":"1","source":"/x","type":"t"`
			if c.members != "" {
				body += "," + c.members
			}
			got, err := events.DecodeJSON([]byte(body + "}"))
			if err != nil {
				t.Fatal(err)
			}
			want := base
			c.want(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("\n got %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestDecodeJSONRefusesAndNamesTheMember(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, want string }{
		{"no JSON", `hello`, "not a JSON object"},
		{"nothing", ``, "not a JSON object"},
		{"an array", `[]`, "not a JSON object"},
		{"cut", `{"id":"1"`, "not a JSON object"},
		{"more behind it", valid(``) + `{}`, "goes on after"},
		{"no specversion", `{"id":"1","source":"/x","type":"t"}`, "specversion: required"},
		{"another specversion", `{"specversion":"0.3","id":"1","source":"/x","type":"t"}`, `specversion: is "0.3"`},
		{"specversion as a number", `{"specversion":1.0,"id":"1","source":"/x","type":"t"}`, "specversion: must be a string"},
		{"no id", `{"specversion":"1.0","source":"/x","type":"t"}`, "id: required"},
		{"id as a number", `{"specversion":"1.0","id":1,"source":"/x","type":"t"}`, "id: must be a string"},
		{"id null", `{"specversion":"1.0","id":null,"source":"/x","type":"t"}`, "id: required"},
		{"no source", `{"specversion":"1.0","id":"1","type":"t"}`, "source: required"},
		{"no type", `{"specversion":"1.0","id":"1","source":"/x"}`, "type: required"},
		{"a name twice", valid(`"subject":"a","subject":"b"`), "subject: is there more than once"},
		{"time", valid(`"time":"yesterday"`), `time: "yesterday" is no RFC 3339 time`},
		{"sequence", valid(`"sequence":"-1"`), `sequence: "-1" is no number`},
		{"an attribute that is an object", valid(`"tenant":{}`), "tenant: must be a string, a number or a boolean"},
		{"an attribute that is an array", valid(`"tenant":[1]`), "tenant: must be a string, a number or a boolean"},
		{"a name in upper case", valid(`"Tenant":"x"`), `extension "Tenant"`},
		{"both kinds of data", valid(`"data":1,"data_base64":"AA=="`), "data and data_base64"},
		{"base64 that is none", valid(`"data_base64":"%"`), "data_base64: illegal base64"},
		{"base64 as a number", valid(`"data_base64":5`), "data_base64: must be a string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := events.DecodeJSON([]byte(c.body))
			if !errors.Is(err, events.ErrUndecodable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want one with %q", err, c.want)
			}
		})
	}
}

func valid(members string) string {
	if members != "" {
		members = "," + members
	}
	return `{"specversion":"1.0","id":"1","source":"/x","type":"t"` + members + "}"
}

func TestDecodeBatchSaysWhichEventIsWrong(t *testing.T) {
	t.Parallel()
	evs, errs, err := events.DecodeBatch([]byte("[" + valid(``) + `,{"id":"2"},` + valid(`"subject":"s"`) + "]"))
	if err != nil {
		t.Fatal(err)
	}
	if len(evs) != 3 || len(errs) != 3 || errs[0] != nil || errs[2] != nil || evs[2].Subject != "s" {
		t.Errorf("got %+v, %v", evs, errs)
	}
	if !errors.Is(errs[1], events.ErrUndecodable) || evs[1].ID != "2" {
		t.Errorf("the second: got %+v, %v", evs[1], errs[1])
	}
	for _, body := range []string{``, `{}`, `[1`, `"x"`} {
		if _, _, err := events.DecodeBatch([]byte(body)); !errors.Is(err, events.ErrUndecodable) {
			t.Errorf("%q: got %v", body, err)
		}
	}
	if evs, errs, err := events.DecodeBatch([]byte(`[]`)); err != nil || len(evs)+len(errs) != 0 {
		t.Errorf("an empty batch: got %v, %v, %v", evs, errs, err)
	}
}

func TestEncodeJSONPutsDataWhereItsTypeBelongs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, contentType, data, member, want string }{
		{"JSON", "", `{"a":1}`, "data", `{"a":1}`},
		{"a type that ends in +json", "application/vnd.shop+json", `[1]`, "data", `[1]`},
		{"JSON that is none", "application/json", `{`, "data_base64", `"ew=="`},
		{"text", "text/plain", `{"a":1}`, "data", `"{\"a\":1}"`},
		{"bytes", "image/png", "\xff\x00", "data_base64", `"/wA="`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := events.Event{ID: "1", Source: "/x", Type: "t", DataContentType: c.contentType, Data: []byte(c.data)}
			body, err := events.EncodeJSON(&e)
			if err != nil {
				t.Fatal(err)
			}
			var members map[string]json.RawMessage
			if err := json.Unmarshal(body, &members); err != nil {
				t.Fatal(err)
			}
			if got := string(members[c.member]); got != c.want {
				t.Errorf("%s: member %s is %s, want %s", body, c.member, got, c.want)
			}
			back, err := events.DecodeJSON(body)
			if err != nil {
				t.Fatal(err)
			}
			if string(back.Data) != c.data {
				t.Errorf("data came back as %q", back.Data)
			}
		})
	}
}

// FuzzDecodeBatch holds the batch to what single events are.
//
// It faces outside.
func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte("[" + valid(`"data":{"a":1}`) + "," + valid(`"data_base64":"AAEC"`) + `,5,{"id":null}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		evs, errs, err := events.DecodeBatch(data)
		if err != nil {
			if !errors.Is(err, events.ErrUndecodable) {
				t.Fatalf("error %v is not ErrUndecodable", err)
			}
			return
		}
		if len(evs) != len(errs) {
			t.Fatalf("%d events, %d errors", len(evs), len(errs))
		}
		for i := range evs {
			if errs[i] != nil {
				continue
			}
			body, err := events.EncodeJSON(&evs[i])
			if err != nil {
				t.Fatalf("%+v was read and can't be written: %v", evs[i], err)
			}
			if _, err := events.DecodeJSON(body); err != nil {
				t.Fatalf("%s was written and can't be read: %v", body, err)
			}
		}
	})
}
