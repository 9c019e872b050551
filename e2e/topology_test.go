package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// TestTopologyFromTheShell looks, changes and looks again, as before an upgrade; then a stream is one that can't become what is declared.
func TestTopologyFromTheShell(t *testing.T) {
	t.Parallel()
	url, _, _ := startBroker(t)
	var nc *nats.Conn
	eventstest.Eventually(t, time.Minute, "the broker answers", func() (ok bool) {
		var err error
		nc, err = nats.Connect(url)
		return err == nil
	})
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(wantStatus int, want string, args ...string) string {
		t.Helper()
		out, status := verb(t, append([]string{"topology"}, args...)...)
		if status != wantStatus || !strings.Contains(out, want) {
			t.Errorf("topology %s: status %d, want %d and %q", strings.Join(args, " "), status, wantStatus, want)
		}
		return out
	}
	expect(0, "create stream ORDERS\n", "apply", "--nats", url, "--dry-run")
	if names := js.StreamNames(t.Context()); len(names.Name()) > 0 {
		t.Error("--dry-run has made streams")
	}
	expect(0, "are in place", "apply", "--nats", url)
	expect(0, "nothing to change\n", "apply", "--nats", url, "--dry-run")

	stream, err := js.Stream(t.Context(), events.StreamLate)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	if err := js.DeleteStream(t.Context(), events.StreamLate); err != nil {
		t.Fatal(err)
	}
	config.Storage, config.MaxAge = jetstream.MemoryStorage, 2*config.MaxAge
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	expect(1, "REFUSE stream LATE\n    max_age: 1440h0m0s -> 720h0m0s\n        the broker forgets at once what is beyond the new limit\n    storage: memory -> file\n        where a stream is stored is fixed",
		"apply", "--nats", url, "--dry-run")
	var change struct {
		Kind, Name  string
		Differences []struct{ Setting, Stored, Wanted, Cure string }
	}
	line := expect(1, `"storage"`, "apply", "--nats", url, "--dry-run", "--json")
	if err := json.Unmarshal([]byte(line), &change); err != nil || change.Name != "LATE" || len(change.Differences) != 2 || change.Differences[1].Cure == "" {
		t.Errorf("--json printed %s (%v)", line, err)
	}
	expect(1, "", "apply", "--nats", url)

	for _, args := range [][]string{{"asyncapi"}, {"asyncapi", "--json"}} {
		var document struct{ AsyncAPI string }
		if out := expect(0, "x-jetstream", args...); json.Unmarshal([]byte(out), &document) != nil || document.AsyncAPI != "3.0.0" {
			t.Errorf("%v printed no AsyncAPI document", args)
		}
	}
	if out := expect(0, "GROUP", "show"); !strings.Contains(out, "<ORDERS <CLICKS <TICKS") {
		t.Errorf("show says %s", out)
	}
}
