package events_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestToken(t *testing.T) {
	t.Parallel()
	// Real SKUs of a real shop, and what would break a subject.
	vectors := map[string]string{
		"85123A": "85123A", "BANK CHARGES": "BANK=20CHARGES", "gift_0001-20": "gift_0001-20", "": "=", "=": "=3D", "a.b": "a=2Eb",
		"*": "=2A", ">": "=3E", "$JS": "=24JS", "€": "=E2=82=AC", "a/b": "a=2Fb", "\x00\n": "=00=0A", "ann@example.com": "ann=40example=2Ecom",
	}
	for text, token := range vectors {
		if got := events.Token(text); got != token {
			t.Errorf("Token(%q) = %q, want %q", text, got, token)
		}
		if got, err := events.Untoken(token); err != nil || got != text {
			t.Errorf("Untoken(%q) = %q, %v, want %q", token, got, err, text)
		}
	}
}

func TestUntokenRefusesWhatTokenNeverWrites(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "a.b", "a b", "=2", "=", "a=", "=zz", "=2e", "=41", "==", "=+1", "=FF", "€"} {
		if token == "=" {
			continue // the empty text
		}
		if s, err := events.Untoken(token); !errors.Is(err, events.ErrInvalidToken) {
			t.Errorf("Untoken(%q) = %q, %v, want ErrInvalidToken", token, s, err)
		}
	}
}

func TestTokenIsABijection(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		token := events.Token(a)
		if strings.ContainsAny(token, ". *>\t\r\n") || token == "" {
			t.Fatalf("%q is no token of a subject", token)
		}
		if back, err := events.Untoken(token); err != nil || back != a {
			t.Fatalf("%q comes back as %q, %v", a, back, err)
		}
		if a != b && token == events.Token(b) {
			t.Fatalf("%q and %q have one token", a, b)
		}
	})
}

func TestPartitionIsInRangeAndSpreads(t *testing.T) {
	t.Parallel()
	const n, keys = 8, 8000
	var counts [n]int
	for i := range keys {
		p := events.Partition("key-"+strconv.Itoa(i), n)
		if p < 0 || p >= n {
			t.Fatalf("partition %d of %d", p, n)
		}
		counts[p]++
	}
	for p, c := range counts {
		if c < keys/n/2 || c > keys/n*2 {
			t.Errorf("partition %d has %d of %d keys", p, c, keys)
		}
	}
}

// What our library writes into a subject and what the server writes must be the same, or a key would have two partitions: one for events that
// we append and one for events that others publish.
func TestPartitionEqualsTheServers(t *testing.T) {
	t.Parallel()
	js := eventstest.Start(t).JetStream()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, n := range []int{1, 3, 8, 10, 64} {
		name := fmt.Sprintf("P%d", n)
		in := fmt.Sprintf("in%d", n)
		stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
			Name: name, Subjects: []string{in + ".*"}, Storage: jetstream.MemoryStorage,
			SubjectTransform: &jetstream.SubjectTransformConfig{Source: in + ".*", Destination: fmt.Sprintf("out%d.{{partition(%d,1)}}.{{wildcard(1)}}", n, n)},
		})
		if err != nil {
			t.Fatal(err)
		}
		keys := []string{"85123A", "BANK CHARGES", "", "a.b", "€uro", "12345", "ann@example.com", "*", ">"}
		for i := range 40 {
			keys = append(keys, "user-"+strconv.Itoa(i))
		}
		for _, key := range keys {
			token := events.Token(key)
			ack, err := js.Publish(ctx, in+"."+token, nil)
			if err != nil {
				t.Fatalf("publish %q: %v", key, err)
			}
			msg, err := stream.GetMsg(ctx, ack.Sequence)
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("out%d.%d.%s", n, events.Partition(token, n), token); msg.Subject != want {
				t.Errorf("%q among %d: the server stores %q, we compute %q", key, n, msg.Subject, want)
			}
		}
	}
}
