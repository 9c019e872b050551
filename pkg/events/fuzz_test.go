package events_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
)

// Whatever Decode accepts, Encode writes so that it reads back the same; what it refuses is called undecodable.
//
// It faces outside.
func FuzzDecode(f *testing.F) {
	f.Add("ce-id", "1", "Ce-Subject", "a%20b", []byte(`{}`))
	f.Add("ce-time", "2011-03-31T10:00:00+01:00", "ce-sequence", "0000000001", []byte(`{}`))
	f.Add("CE-ID", "%E2%82%AC", "content-type", "application/cloudevents+json", []byte(`{"specversion":"1.0","id":"1","source":"/x","type":"t"}`))
	f.Add("traceparent", "00-\r\n", "ce-x", "%", []byte(nil))
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string, data []byte) {
		h := events.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/x"}, "ce-type": {"t"}}
		h[name1] = []string{value1}
		h[name2] = []string{value2}
		e, err := events.Decode(h, data)
		if err != nil {
			if !errors.Is(err, events.ErrUndecodable) {
				t.Fatalf("error %v is not ErrUndecodable", err)
			}
			return
		}
		again(t, e)
	})
}

func again(t *testing.T, e events.Event) {
	t.Helper()
	h, data, err := events.Encode(&e)
	if err != nil {
		t.Fatalf("%+v was read and can't be written: %v", e, err)
	}
	back, err := events.Decode(h, data)
	if err != nil {
		t.Fatalf("%+v was written and can't be read: %v", e, err)
	}
	// What Encode may change: it names JSON, drops a broken trace context and extensions without a value.
	e.TraceParent, e.TraceState, back.TraceParent, back.TraceState = "", "", "", ""
	if e.DataContentType == "" {
		back.DataContentType = ""
	}
	for name, value := range e.Extensions {
		if value == "" {
			delete(e.Extensions, name)
		}
	}
	if len(e.Extensions) == 0 {
		e.Extensions = nil
	}
	if !bytes.Equal(e.Data, back.Data) {
		t.Fatalf("data %q became %q", e.Data, back.Data)
	}
	e.Data, back.Data = nil, nil
	if !reflect.DeepEqual(e, back) {
		t.Fatalf("\n got %+v\nwant %+v", back, e)
	}
}

// It faces outside.
func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/x","type":"t","data":{"a":1}}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/x","type":"t","data_base64":"AAEC","time":"2011-03-31T10:00:00Z","sequence":3}`))
	f.Add([]byte(`{"specversion":"1.0","id":"€ %41","source":"/x","type":"t","traceparent":"00-1\r\nX: y","loyalty":true}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := events.DecodeJSON(data)
		if err != nil {
			if !errors.Is(err, events.ErrUndecodable) {
				t.Fatalf("error %v is not ErrUndecodable", err)
			}
			return
		}
		again(t, e)
		if _, err := events.EncodeJSON(&e); err != nil {
			t.Fatalf("%+v was read and can't be written: %v", e, err)
		}
	})
}

// One text has one token: whatever Untoken accepts, Token writes again.
//
// It faces outside.
func FuzzUntoken(f *testing.F) {
	for _, s := range []string{"=", "85123A", "BANK=20CHARGES", "=E2=82=AC", "=41", "=2e", "a=", "=FF", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		s, err := events.Untoken(token)
		if err != nil {
			if !errors.Is(err, events.ErrInvalidToken) {
				t.Fatalf("error %v is not ErrInvalidToken", err)
			}
			return
		}
		if back := events.Token(s); back != token {
			t.Fatalf("%q is the token %q, and %q was accepted for it", s, back, token)
		}
	})
}

func FuzzParseMinor(f *testing.F) {
	for _, s := range []string{"2.55", "0", "0.5", "1.234", "-1", "1e3", ".5", "5.", "92233720368547758.07", "92233720368547758.08", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := events.ParseMinor(s)
		if err != nil {
			if !errors.Is(err, events.ErrInvalidAmount) {
				t.Fatalf("error %v is not ErrInvalidAmount", err)
			}
			return
		}
		if m < 0 {
			t.Fatalf("%q is %d", s, m)
		}
		if back, err := events.ParseMinor(m.String()); err != nil || back != m {
			t.Fatalf("%q is %s, which is %d (%v)", s, m, back, err)
		}
	})
}
