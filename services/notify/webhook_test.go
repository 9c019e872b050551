package notify

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.opentelemetry.io/otel/propagation"

	"github.com/tidemark/tidemark/internal/mailsink"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // of the library's documentation

// receiver is somebody else's server. It verifies every call.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	calls  []call
	answer func(w http.ResponseWriter, n int)
}

type call struct {
	id   string
	body webhookBody
}

func newReceiver(t *testing.T, answer func(w http.ResponseWriter, n int)) *receiver {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, err := io.ReadAll(req.Body)
		if err != nil || req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v", req.Method, req.Header, err)
		}
		if err := verifier.Verify(raw, req.Header); err != nil {
			t.Errorf("the signature: %v", err)
		}
		c := call{id: req.Header.Get(standardwebhooks.HeaderWebhookID)}
		if err := json.Unmarshal(raw, &c.body); err != nil {
			t.Errorf("the body: %v", err)
		}
		r.mu.Lock()
		r.calls = append(r.calls, c)
		n := len(r.calls)
		r.mu.Unlock()
		if r.answer != nil {
			r.answer(w, n)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) seen() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]call(nil), r.calls...)
}

func TestWebhookIsSignedAndSentOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := newReceiver(t, nil)
	s.start(Config{WebhookURL: r.URL + "/hook", WebhookSecret: secret})
	sent := s.order("o1", placed("o1", "nobody"))
	s.awaitNotices(2) // the mail is skipped, the webhook is not
	s.awaitDone()
	calls := r.seen()
	if len(calls) != 1 {
		t.Fatalf("%d calls, want 1", len(calls))
	}
	c := calls[0]
	if c.body.Type != events.TypeOrderPlaced || !c.body.Timestamp.Equal(sent[0].Time) || string(c.body.Data) != string(sent[0].Data) || c.id != "msg_"+events.DeriveID(sent[0].ID, "webhook") {
		t.Errorf("call is %+v", c)
	}
	if rec, n := s.notice("o1", 1, channelWebhook); rec.Type != events.TypeNoticeSent || n.MessageID != c.id {
		t.Errorf("notice is %s %+v", rec.Type, n)
	}
}

// While one channel fails, the other, which has succeeded, is not used again.
func TestOneChannelFailsTheOtherIsSilent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("c1", "ann@customers.example")
	r := newReceiver(t, func(w http.ResponseWriter, n int) {
		if n < 4 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	s.start(Config{WebhookURL: r.URL, WebhookSecret: secret, Retries: manyRetries()})
	s.order("o1", placed("o1", "c1"))
	s.awaitNotices(2)
	s.awaitDone()
	if mails := s.mails(); len(mails) != 1 || mails[0].Attempts != 1 {
		t.Errorf("mails are %+v, want one in one attempt", mails)
	}
	calls := r.seen()
	if len(calls) != 4 {
		t.Fatalf("%d calls, want 4", len(calls))
	}
	for _, c := range calls {
		if c.id != calls[0].id {
			t.Errorf("the webhook-id changed from %s to %s", calls[0].id, c.id)
		}
	}
}

// A mail that is refused for good does not take the webhook with it, and the other way round.
func TestAPermanentFailureOfOneChannelLeavesTheOther(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("c1", "ann@customers.example")
	if err := s.sink.SetFaults(mailsink.Faults{PermanentRate: 1}); err != nil {
		t.Fatal(err)
	}
	r := newReceiver(t, func(w http.ResponseWriter, n int) {
		if n < 3 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	s.start(Config{WebhookURL: r.URL, WebhookSecret: secret, Retries: manyRetries()})
	s.order("o1", placed("o1", "c1"))
	l := s.letter("o1")
	if reason := l.Header.Get(deadletter.HeaderReason); reason != string(deadletter.ReasonPermanent) || !strings.Contains(l.Header.Get(deadletter.HeaderError), "550") {
		t.Errorf("letter: %s, %s", reason, l.Header.Get(deadletter.HeaderError))
	}
	s.notice("o1", 1, channelWebhook) // it was sent before the letter
	if n := len(r.seen()); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

func TestARefusedWebhookIsADeadLetter(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := newReceiver(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusGone) })
	s.start(Config{WebhookURL: r.URL + "/path?token=hunter2", WebhookSecret: secret})
	s.order("o1", placed("o1", "nobody"))
	l := s.letter("o1")
	if reason, text := l.Header.Get(deadletter.HeaderReason), l.Header.Get(deadletter.HeaderError); reason != string(deadletter.ReasonPermanent) || !strings.Contains(text, "410") {
		t.Errorf("letter: %s, %s", reason, text)
	}
	if len(r.seen()) != 1 {
		t.Errorf("%d calls, want 1", len(r.seen()))
	}
}

func hook(t *testing.T, url string, timeout time.Duration) *webhook {
	t.Helper()
	w, err := newWebhook(Config{WebhookURL: url, WebhookSecret: secret, SendTimeout: timeout}, propagation.TraceContext{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}

var someNews = news{eventID: "e1", eventType: events.TypeOrderPlaced, orderID: "o1", version: 1, data: []byte(`{"order_id":"o1"}`)}

func TestWebhookFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	elsewhere := newReceiver(t, nil)
	r := newReceiver(t, func(w http.ResponseWriter, _ int) {
		w.Header().Set("Location", elsewhere.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	_, err := hook(t, r.URL, 5*time.Second).send(t.Context(), someNews)
	if err == nil || fail.IsPermanent(err) || !strings.Contains(err.Error(), "307") {
		t.Errorf("error %v", err)
	}
	if n := len(elsewhere.seen()); n != 0 {
		t.Errorf("the redirect was followed %d times", n)
	}
}

func TestWhatTheReceiverAnswers(t *testing.T) {
	t.Parallel()
	w := hook(t, "http://127.0.0.1", time.Second)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w.now = func() time.Time { return now }
	const no = -1 * time.Second
	for _, tc := range []struct {
		status    int
		after     string
		ok        bool
		permanent bool
		wait      time.Duration
	}{
		{200, "", true, false, no}, {204, "", true, false, no}, {301, "", false, false, no},
		{400, "", false, true, no}, {401, "", false, true, no}, {410, "5", false, true, no}, {422, "", false, true, no},
		{408, "", false, false, no}, {409, "", false, false, no}, {425, "", false, false, no}, {429, "7", false, false, 7 * time.Second},
		{500, "", false, false, no}, {503, "Fri, 02 Jan 2026 03:04:15 GMT", false, false, 10 * time.Second}, {503, "86400", false, false, maxRetryAfter},
		{503, "Fri, 02 Jan 1998 03:04:15 GMT", false, false, 0}, {503, "soon", false, false, no},
	} {
		err := w.judge(&http.Response{StatusCode: tc.status, Header: http.Header{"Retry-After": {tc.after}}})
		wait, asked := fail.Wait(err)
		if !asked {
			wait = no
		}
		if (err == nil) != tc.ok || fail.IsPermanent(err) != tc.permanent || wait != tc.wait {
			t.Errorf("%d %q: %v, permanent %t, wait %s", tc.status, tc.after, err, fail.IsPermanent(err), wait)
		}
	}
}

func TestWebhookLimits(t *testing.T) {
	t.Parallel()
	t.Run("an answer without an end", func(t *testing.T) {
		t.Parallel()
		r := newReceiver(t, func(w http.ResponseWriter, _ int) {
			block := make([]byte, 32<<10)
			for {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		})
		if _, err := hook(t, r.URL, 20*time.Second).send(t.Context(), someNews); err != nil {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		r := newReceiver(t, func(http.ResponseWriter, int) { <-release })
		t.Cleanup(func() { close(release) })
		_, err := hook(t, r.URL+"/?token=hunter2", 50*time.Millisecond).send(t.Context(), someNews)
		if err == nil || fail.IsPermanent(err) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %v", err)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "5", "-1", "99999999999999999999", "Fri, 02 Jan 2026 03:04:15 GMT", "1.5", " 3 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		wait, ok := retryAfter(s, time.Unix(1_000_000_000, 0))
		if wait < 0 || wait > maxRetryAfter || !ok && wait != 0 {
			t.Errorf("%q: %s, %t", s, wait, ok)
		}
	})
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	lasting, passing, later := fail.Permanent(errors.New("lasting")), errors.New("passing"), fail.RetryAfter(time.Minute, errors.New("later"))
	for _, tc := range []struct {
		name      string
		failures  []error
		permanent bool
		wait      time.Duration
	}{
		{"none", nil, false, 0},
		{"lasting", []error{lasting}, true, 0},
		{"both lasting", []error{lasting, lasting}, true, 0},
		{"one may heal", []error{lasting, passing}, false, 0},
		{"one asks for time", []error{later, lasting}, false, time.Minute},
		{"the longer wait counts", []error{later, passing, fail.RetryAfter(time.Second, passing)}, false, time.Minute},
	} {
		err := verdict(tc.failures)
		wait, _ := fail.Wait(err)
		if (err == nil) != (len(tc.failures) == 0) || fail.IsPermanent(err) != tc.permanent || wait != tc.wait {
			t.Errorf("%s: %v, permanent %t, wait %s", tc.name, err, fail.IsPermanent(err), wait)
		}
	}
}

// Nothing that goes wrong with a webhook takes the mail's place in the queue.
func TestAWebhookThatIsAwayDoesNotHoldTheMail(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.address("c1", "ann@customers.example")
	r := newReceiver(t, nil)
	url := r.URL
	r.Close()
	s.start(Config{WebhookURL: url, WebhookSecret: secret})
	s.order("o1", placed("o1", "c1"))
	eventstest.Eventually(t, limit, "the mail is sent", func() bool { return s.sink.Total() == 1 })
}
