package suite

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// letter is a line of `dlq list --json`.
type letter struct{ ID, Group, Key, Fingerprint, Error, Reason string }

func (s *Shop) letters(filter ...string) []letter {
	s.Helper()
	return done[letter](s, append([]string{"dlq", "list", "--json"}, filter...)...)
}

// cause is a line of `dlq groups --json`.
type cause struct {
	Group, Reason, Fingerprint, Error string
	Count                             int
	BlockedKeys                       int `json:"blocked_keys"`
}

// poison: a load with poison of two causes becomes one cause each; the cause is repaired outside, a replay empties it, and the rest is discarded.
func poison(s *Shop) {
	since := s.run.Add(-time.Second).UTC().Format(time.RFC3339Nano)
	causes := func() map[string]cause {
		by := make(map[string]cause)
		for _, c := range done[cause](s, "dlq", "groups", "--since", since, "--json") {
			if before, twice := by[c.Group]; twice {
				s.Errorf("group %s has the causes %+v and %+v, want one", c.Group, before, c)
			}
			by[c.Group] = c
		}
		return by
	}
	repair := s.faults(s.at.Mails(), "/v1/outbox/faults", `{"refused_text":"POISON APPLE"}`, `{"refused_text":"POISON APPLE"}`)
	_ = repair // the sink begins so, and ends so; in between it is repaired by hand
	sent := done[struct {
		Mail   int `json:"poison_mail"`
		Clicks int `json:"poison_clicks"`
	}](s, "load", "--rate", "300", "--for", "3s", "--poison", "0.02", "--wait", "--json")[0]
	if sent.Mail == 0 || sent.Clicks == 0 {
		s.Fatalf("load says %+v: no poison of one cause", sent)
	}
	var by map[string]cause
	s.until("as many letters as poison was sent", func() bool {
		by = causes()
		return by["notify"].Count == sent.Mail && by["analytics"].Count == sent.Clicks
	})
	mail, clicks := by["notify"], by["analytics"]
	if mail.Reason != "permanent" || !strings.Contains(mail.Error, "554") || clicks.BlockedKeys != 0 {
		s.Errorf("causes %+v and %+v", mail, clicks)
	}
	if out, status := s.verb("check"); status != 0 {
		s.Errorf("check with letters: exit status %d\n%s", status, out)
	}
	mine := func(verb string, c cause, more ...string) int {
		_, status := s.verb(append([]string{"dlq", verb, "--fingerprint", c.Fingerprint, "--since", since}, more...)...)
		return status
	}
	if status := mine("replay", mail); status != 2 {
		s.Errorf("a replay without --yes and without a terminal: exit status %d, want 2", status)
	}
	if a := s.callAt(s.at.Mails(), http.MethodPut, "/v1/outbox/faults", "{}", nil); a.status != http.StatusOK {
		s.Fatalf("repair the mail provider: %s", a)
	}
	if status := mine("replay", mail, "--yes", "--why", "the provider is back"); status != 0 {
		s.Errorf("replay: exit status %d", status)
	}
	if status := mine("discard", clicks, "--yes", "--why", "cut off for good"); status != 0 {
		s.Errorf("discard: exit status %d", status)
	}
	if left := causes(); len(left) != 0 {
		s.Errorf("left: %+v", left)
	}
	holds(s)
}

// groupsOf are those that a replay moves.
func groupsOf() []string {
	return []string{"inventory", "order-stock", "order-deadlines", "notify", "analytics"}
}

// replayed: every group is moved back to before this case began, so every handler is called again for its orders. No mail is sent again, no payment made, no unit moved, no
// event stored.
func replayed(s *Shop) {
	const orders = 10
	sku := s.name("CUP")
	s.receive(sku, 2*orders)
	var ids []string
	for range orders {
		ids = append(ids, s.place(s.order("ann", sku, 1)).ID)
	}
	mails := s.told(s.email("ann"), 2*orders)
	s.until("all is committed", func() bool { return s.stock(sku) == stock{OnHand: orders, Available: orders} })
	before := make(map[string][]string)
	for _, id := range ids {
		s.became(id, "order.placed", "order.confirmed", "stock.reserved", "stock.committed")
		before[id] = s.events(id)
	}
	since := s.run.Add(-time.Second).UTC().Format(time.RFC3339Nano)
	type move struct {
		Events, Again  uint64
		Moved, Reading bool
		Note           string
	}
	for _, group := range groupsOf() {
		args := []string{"replay", "--group", group, "--from-time", since, "--json"}
		dry := done[move](s, append(args, "--dry-run")...)[0]
		if dry.Moved {
			s.Errorf("%s: a dry run says %+v", group, dry)
		}
		if out, status := s.verb(args...); status != 2 || out != "" {
			s.Errorf("without --yes and without a terminal: exit status %d, want 2", status)
		}
		did := done[move](s, append(args, "--yes", "--wait")...)[0]
		if !did.Moved || !did.Reading {
			s.Errorf("%s: %+v; the dry run said %+v", group, did, dry)
		}
		switch {
		case group == "analytics" && did.Note == "":
			s.Error("it is not said that analytics keeps its own place")
		case (group == "inventory" || group == "notify") && did.Again < 2*orders:
			s.Errorf("%s handles %d events again, want at least %d", group, did.Again, 2*orders)
		}
	}
	holds(s)
	ledger := s.ledger()
	for _, id := range ids {
		if now := s.events(id); !slices.Equal(now, before[id]) {
			s.Errorf("order %s had the events %v and has %v", id, before[id], now)
		}
		if len(ledger[id]) != 1 {
			s.Errorf("order %s was paid for: %+v", id, ledger[id])
		}
	}
	if now := s.told(s.email("ann"), 2*orders); !slices.Equal(now, mails) {
		s.Error("the mails are other ones")
	}
	if has := s.stock(sku); has != (stock{OnHand: orders, Available: orders}) {
		s.Errorf("of the article, %+v is there", has)
	}
	if out, status := s.verb("replay", "--group", "nobody", "--from-seq", "1", "--yes"); status != 2 {
		s.Errorf("replay of an unknown group: exit status %d, %s", status, out)
	}
	if out, status := s.verb("groups", "show", "nobody"); status != 1 {
		s.Errorf("show of an unknown group: exit status %d, %s", status, out)
	}
}

// holds: tidemark check finds nothing.
func holds(s *Shop) {
	s.Helper()
	out, status := s.verb("check", "--json", "--wait", patience.String())
	if status != 0 {
		s.Errorf("check: exit status %d\n%s", status, out)
	}
	if n := strings.Count(out, "\n"); n != 13 {
		s.Errorf("check judges %d invariants, want 13", n)
	}
}
