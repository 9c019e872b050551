package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/e2e/batch"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// stored is one message of a stream.
type stored struct {
	subject string
	header  nats.Header
	data    []byte
}

// connect is a plain client, as one of the users of the broker of an `up`.
func connect(t *testing.T, u *up, user string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nkey, err := nats.NkeyOptionFromSeed(u.seed(t, user))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(u.nats, nkey, nats.CustomInboxPrefix("_INBOX_"+user))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// read is what a stream holds now, in its order.
func read(t *testing.T, js jetstream.JetStream, stream, filter string) (out []stored) {
	t.Helper()
	consumer, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := consumer.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	left := info.NumPending
	if left == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for left > 0 {
		m, err := messages.Next(jetstream.NextMaxWait(30 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		left = meta.NumPending
		out = append(out, stored{m.Subject(), m.Headers(), m.Data()})
	}
	return out
}

// held is how many messages a stream holds on a subject.
func held(t *testing.T, js jetstream.JetStream, stream, filter string) (n int) {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(filter))
	if err != nil {
		t.Fatal(err)
	}
	for _, on := range info.State.Subjects {
		n += int(on) //nolint:gosec // a count
	}
	return n
}

// result is a window as it is published, as far as a batch has an answer to it.
type result struct {
	Query      string
	Key        string
	Start, End time.Time
	Revision   int
	Timing     string
	Value      int64
	Count      int64
	Top        []struct {
		Item  string
		Value int64
	}
}

// answers are the last words on all windows.
func answers(t *testing.T, results []stored) map[batch.Cell]batch.Answer {
	t.Helper()
	last := make(map[string]result)
	for _, m := range results {
		var r result
		if err := json.Unmarshal(m.data, &r); err != nil {
			t.Fatalf("%s: %v", m.subject, err)
		}
		last[m.subject] = r
	}
	all := make(map[batch.Cell]batch.Answer)
	for _, r := range last {
		if r.Timing == "retract" {
			continue
		}
		c := batch.Cell{Query: r.Query, Key: r.Key, Start: r.Start.UnixMilli(), End: r.End.UnixMilli()}
		if strings.HasPrefix(r.Key, batch.Guest) {
			c.Key = batch.Guest
		}
		a := batch.Answer{Windows: all[c].Windows + 1, Count: all[c].Count + r.Count, Value: all[c].Value + r.Value}
		var top strings.Builder
		for _, rank := range r.Top {
			fmt.Fprintf(&top, "%s=%d;", rank.Item, rank.Value)
		}
		a.Top = top.String()
		all[c] = a
	}
	return all
}

// timings counts results by when they came out.
func timings(t *testing.T, results []stored) map[string]int {
	t.Helper()
	n := make(map[string]int)
	for _, m := range results {
		var r result
		if err := json.Unmarshal(m.data, &r); err != nil {
			t.Fatal(err)
		}
		n[r.Timing]++
	}
	return n
}

// ofThisRun are the headers in which the messages of two runs over one log may differ, and why. All others, the subjects and the payloads are the same byte by byte.
var ofThisRun = map[string]string{
	"traceparent":                              "a run has traces of its own",
	"tracestate":                               "goes with it",
	jetstream.ExpectedLastSubjSeqHeader:        "where the result before it stands in WINDOWS, among commit records, of which a run makes as many as it needs",
	jetstream.ExpectedLastSeqHeader:            "where a stream ended: it may have been another stream before",
	"Nats-Expected-Last-Subject-Sequence-Subj": "goes with it",
}

// unlike tells how two streams differ, message by message on each subject; empty where they don't.
func unlike(a, b []stored) string {
	left, right := bySubject(a), bySubject(b)
	subjects := make(map[string]bool)
	for s := range left {
		subjects[s] = true
	}
	for s := range right {
		subjects[s] = true
	}
	var out strings.Builder
	n := 0
	for _, s := range slices.Sorted(maps.Keys(subjects)) {
		if slices.EqualFunc(left[s], right[s], func(a, b string) bool { return a == b }) {
			continue
		}
		if n++; n <= 5 {
			fmt.Fprintf(&out, "%s:\n  %s\n  %s\n", s, strings.Join(left[s], "\n  "), strings.Join(right[s], "\n  "))
		}
	}
	if n > 0 {
		fmt.Fprintf(&out, "%d subjects of %d differ", n, len(subjects))
	}
	return out.String()
}

func bySubject(messages []stored) map[string][]string {
	out := make(map[string][]string)
	for _, m := range messages {
		out[m.subject] = append(out[m.subject], m.text())
	}
	return out
}

// text is everything that must be the same.
func (m stored) text() string {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(m.header)) {
		if _, differs := ofThisRun[name]; !differs {
			fmt.Fprintf(&b, "%s=%q ", name, m.header[name])
		}
	}
	return b.String() + string(m.data)
}

// What the comparisons are for is that they find something.
func TestStoredMessagesAreCompared(t *testing.T) {
	t.Parallel()
	server := eventstest.Start(t)
	js := server.JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "R", Subjects: []string{"r.>"}, Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	publish := func(start, end, revision int, timing string, count int, trace string) {
		t.Helper()
		at := func(minute int) string { return time.UnixMilli(int64(minute) * 60_000).UTC().Format(time.RFC3339) }
		m := nats.NewMsg("r." + strconv.Itoa(start))
		m.Data = fmt.Appendf(nil, `{"query":"q","key":"k","start":%q,"end":%q,"revision":%d,"timing":%q,"value":%d,"count":%d,"top":[{"item":"A","value":%d}]}`,
			at(start), at(end), revision, timing, 2*count, count, count)
		m.Header.Set("traceparent", trace)
		m.Header.Set("ce-id", fmt.Sprint(start, end, revision))
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, 2, 1, "on_time", 5, "a")
	publish(3, 4, 1, "on_time", 6, "b")
	publish(1, 2, 2, "retract", 0, "c")
	publish(1, 3, 1, "late", 7, "d")
	publish(5, 6, 1, "on_time", 8, "e")
	publish(5, 6, 2, "retract", 0, "f")
	all := read(t, js, "R", "r.>")
	got := answers(t, all)
	want := map[batch.Cell]batch.Answer{
		{Query: "q", Key: "k", Start: 60_000, End: 180_000}:  {Windows: 1, Count: 7, Value: 14, Top: "A=7;"},
		{Query: "q", Key: "k", Start: 180_000, End: 240_000}: {Windows: 1, Count: 6, Value: 12, Top: "A=6;"},
	}
	if n, text := batch.Differences(got, want); n > 0 {
		t.Error(text)
	}
	if n := timings(t, all); n["on_time"] != 3 || n["retract"] != 2 || n["late"] != 1 {
		t.Errorf("timings %v", n)
	}
	other := slices.Clone(all)
	other[0], other[1] = other[1], other[0] // of two subjects
	other[3].header = nats.Header{"traceparent": {"z"}, "ce-id": all[3].header["ce-id"]}
	if text := unlike(all, other); text != "" {
		t.Errorf("they are alike, but: %s", text)
	}
	for name, change := range map[string]func([]stored){
		"a byte":   func(m []stored) { m[3].data = append(slices.Clone(m[3].data), ' ') },
		"a header": func(m []stored) { m[3].header = nats.Header{"ce-id": {"other"}} },
		"order":    func(m []stored) { m[4], m[5] = m[5], m[4] },
		"subject":  func(m []stored) { m[1].subject = "r.7" },
	} {
		other := slices.Clone(all)
		change(other)
		if unlike(all, other) == "" {
			t.Errorf("%s is not noticed", name)
		}
	}
	if unlike(all, all[:5]) == "" || unlike(nil, all) == "" {
		t.Error("what is missing is not noticed")
	}
}
