package lookup_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

const stream = "LOG"

type read func(context.Context, lookup.Request) (jetstream.RawStreamMsg, error)

// ways are both ways to read.
func ways(s lookup.Stream) map[string]read {
	return map[string]read{"leader": s.FromLeader, "any": s.FromAny}
}

func create(t *testing.T, s *eventstest.Server) (jetstream.JetStream, jetstream.Stream) {
	t.Helper()
	js := s.JetStream()
	made, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{"log.>"}, AllowDirect: true, Replicas: s.Replicas()})
	if err != nil {
		t.Fatal(err)
	}
	return js, made
}

func publish(t *testing.T, js jetstream.JetStream, m *nats.Msg) uint64 {
	t.Helper()
	ack, err := js.PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// awaitReplicas waits until every replica has what the leader has, so that any of them answers the same.
func awaitReplicas(t *testing.T, s *eventstest.Server) {
	t.Helper()
	held := func(n *server.Server) string {
		z, err := n.Jsz(&server.JSzOptions{Streams: true})
		if err != nil {
			t.Fatal(err)
		}
		state := z.AccountDetails[0].Streams[0].State
		return fmt.Sprint(state.LastSeq, state.Msgs)
	}
	first := s.Nodes()[0]
	eventstest.Eventually(t, 10*time.Second, "the replicas are equal", func() bool {
		return !slices.ContainsFunc(s.Nodes(), func(n *server.Server) bool { return held(n) != held(first) })
	})
}

// servers runs a test on one server and on three.
func servers(t *testing.T, test func(*testing.T, *eventstest.Server)) {
	t.Helper()
	for name, start := range map[string]func(testing.TB) *eventstest.Server{"one": eventstest.Start, "three": eventstest.StartCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

// Both ways find the same message, with the same place, whatever its own headers claim, and agree about what is not there.
func TestBothWaysAgree(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, s *eventstest.Server) {
		js, made := create(t, s)
		before := time.Now().Add(-time.Minute)
		publish(t, js, &nats.Msg{Subject: "log.a", Data: []byte("1")})
		publish(t, js, &nats.Msg{Subject: "log.b", Data: []byte("2"), Header: nats.Header{"X-Key": {"k", "l"}}})
		// A publisher can write what it likes, the broker's words too.
		liar := nats.Header{
			jetstream.SequenceHeader: {"77"}, jetstream.SubjectHeader: {"log.other"}, jetstream.TimeStampHeaer: {"2001-01-01T00:00:00Z"}, "Status": {"404"}, "Description": {"no"},
		}
		publish(t, js, &nats.Msg{Subject: "log.liar", Header: liar})
		publish(t, js, &nats.Msg{Subject: "log.deleted", Data: []byte("4")})
		publish(t, js, &nats.Msg{Subject: "log.a", Data: []byte("5")})
		if err := made.DeleteMsg(t.Context(), 4); err != nil {
			t.Fatal(err)
		}
		awaitReplicas(t, s)
		for _, c := range []struct {
			request lookup.Request
			want    string // subject, sequence, data; empty: not found
		}{
			{lookup.Request{Sequence: 1}, "log.a 1 1"},
			{lookup.Request{Sequence: 2}, "log.b 2 2"},
			{lookup.Request{Sequence: 3}, "log.liar 3 "},
			{lookup.Request{Sequence: 4}, ""},
			{lookup.Request{Sequence: 6}, ""},
			{lookup.Request{Sequence: 2, NextBySubject: "log.a"}, "log.a 5 5"},
			{lookup.Request{Sequence: 4, NextBySubject: ">"}, "log.a 5 5"},
			{lookup.Request{Sequence: 6, NextBySubject: "log.a"}, ""},
			{lookup.Request{NextBySubject: "log.a", StartTime: before}, "log.a 1 1"},
			{lookup.Request{NextBySubject: ">", StartTime: time.Now().Add(time.Minute)}, ""},
			{lookup.Request{LastBySubject: "log.a"}, "log.a 5 5"},
			{lookup.Request{LastBySubject: "log.*"}, "log.a 5 5"},
			{lookup.Request{LastBySubject: "log.deleted"}, ""},
			{lookup.Request{LastBySubject: `log."<ä>`}, ""},
		} {
			at := make(map[string]time.Time)
			for name, read := range ways(lookup.Of(js, stream)) {
				m, err := read(t.Context(), c.request)
				if c.want == "" {
					if !errors.Is(err, jetstream.ErrMsgNotFound) {
						t.Errorf("%+v, %s: %+v, %v; want not found", c.request, name, m, err)
					}
					continue
				}
				if got := fmt.Sprintf("%s %d %s", m.Subject, m.Sequence, m.Data); err != nil || got != c.want {
					t.Errorf("%+v, %s: %q, %v; want %q", c.request, name, got, err, c.want)
				}
				if at[name] = m.Time; m.Time.Before(before) {
					t.Errorf("%+v, %s: stored at %s", c.request, name, m.Time)
				}
			}
			if !at["leader"].Equal(at["any"]) {
				t.Errorf("%+v: stored at %v", c.request, at)
			}
		}
		for name, read := range ways(lookup.Of(js, stream)) {
			if m, err := read(t.Context(), lookup.Request{Sequence: 2}); err != nil || strings.Join(m.Header["X-Key"], " ") != "k l" {
				t.Errorf("%s: %v, %v", name, m.Header, err)
			}
			if m, err := read(t.Context(), lookup.Request{Sequence: 3}); err != nil || m.Header.Get("Status") != "404" || m.Header.Get(jetstream.SequenceHeader) != "77" {
				t.Errorf("%s: %v, %v; want all that was published", name, m.Header, err)
			}
		}
	})
}

// What is acknowledged is in the leader's next answer. A replica would do it most of the time; the leader moves meanwhile.
func TestTheLeaderKnowsWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	s := eventstest.StartCluster(t)
	js, _ := create(t, s)
	leader := lookup.Of(js, stream)
	for n := range 200 {
		if n == 100 {
			s.StepDown(stream)
		}
		subject := fmt.Sprintf("log.%d", n)
		want := publish(t, js, &nats.Msg{Subject: subject})
		if m, err := leader.FromLeader(t.Context(), lookup.Request{LastBySubject: subject}); err != nil || m.Sequence != want {
			t.Fatalf("message %d: %d, %v", want, m.Sequence, err)
		}
	}
}

// A client that was made for a domain, or for an API that was imported under another name, is asked there.
func TestDomainAndPrefix(t *testing.T) {
	t.Parallel()
	s := eventstest.Start(t)
	js, _ := create(t, s)
	publish(t, js, &nats.Msg{Subject: "log.a"})
	for _, from := range []string{"$JS.HUB.API.>", "imported.>"} { // the first is what a server with that domain maps
		if err := s.Nodes()[0].GlobalAccount().AddMapping(from, jetstream.DefaultAPIPrefix+">"); err != nil {
			t.Fatal(err)
		}
	}
	nc := s.Connect()
	for want, open := range map[string]func() (jetstream.JetStream, error){
		"$JS.API.":     func() (jetstream.JetStream, error) { return jetstream.New(nc) },
		"$JS.HUB.API.": func() (jetstream.JetStream, error) { return jetstream.NewWithDomain(nc, "HUB") },
		"imported.":    func() (jetstream.JetStream, error) { return jetstream.NewWithAPIPrefix(nc, "imported") },
	} {
		js, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if got := lookup.APIPrefix(js); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		log := lookup.Of(js, stream)
		log.Ask = func(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
			if !strings.HasPrefix(subject, want) {
				t.Errorf("%s is asked, want %s", subject, want)
			}
			return nc.RequestWithContext(ctx, subject, body)
		}
		for name, read := range ways(log) {
			if m, err := read(t.Context(), lookup.Request{Sequence: 1}); err != nil || m.Sequence != 1 {
				t.Errorf("%s, %s: %d, %v", want, name, m.Sequence, err)
			}
		}
	}
}

// An error is told from "not found", whatever it is, and a call sends one request.
func TestErrors(t *testing.T) {
	t.Parallel()
	js := eventstest.Start(t).JetStream()
	none := lookup.Of(js, "NONE")
	_, err := none.FromLeader(t.Context(), lookup.Request{Sequence: 1})
	if api, ok := errors.AsType[*jetstream.APIError](err); !ok || api.ErrorCode != jetstream.JSErrCodeStreamNotFound || errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("the leader of no stream: %v", err)
	}
	if _, err := none.FromAny(t.Context(), lookup.Request{Sequence: 1}); !errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("any of no stream: %v", err)
	}
	asked := 0
	none.Ask = func(context.Context, string, []byte) (*nats.Msg, error) {
		asked++
		return nil, nats.ErrTimeout
	}
	for name, read := range ways(none) {
		if _, err := read(t.Context(), lookup.Request{Sequence: 1}); !errors.Is(err, nats.ErrTimeout) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

func TestBadAnswers(t *testing.T) {
	t.Parallel()
	js := eventstest.Start(t).JetStream()
	at := []string{"2026-01-02T03:04:05Z"}
	for name, c := range map[string]struct {
		direct bool
		answer nats.Msg
	}{
		"no JSON":           {false, nats.Msg{Data: []byte("{")}},
		"neither":           {false, nats.Msg{Data: []byte("{}")}},
		"odd headers":       {false, nats.Msg{Data: []byte(`{"message":{"seq":1,"hdrs":"AAAA"}}`)}},
		"empty":             {true, nats.Msg{}},
		"another status":    {true, nats.Msg{Header: nats.Header{"Status": {"408"}, "Description": {"Bad Request"}}}},
		"no sequence":       {true, nats.Msg{Header: nats.Header{jetstream.TimeStampHeaer: at}}},
		"no number":         {true, nats.Msg{Header: nats.Header{jetstream.TimeStampHeaer: at, jetstream.SequenceHeader: {"-1"}}}},
		"no time":           {true, nats.Msg{Header: nats.Header{jetstream.SequenceHeader: {"1"}}}},
		"404 with contents": {true, nats.Msg{Header: nats.Header{"Status": {"404"}}, Data: []byte("x")}},
	} {
		log := lookup.Of(js, stream)
		log.Ask = func(context.Context, string, []byte) (*nats.Msg, error) { return &c.answer, nil }
		read := log.FromLeader
		if c.direct {
			read = log.FromAny
		}
		if m, err := read(t.Context(), lookup.Request{Sequence: 1}); !errors.Is(err, lookup.ErrBadAnswer) || errors.Is(err, jetstream.ErrMsgNotFound) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}
