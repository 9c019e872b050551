package load

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// Summary is what a load did. Placed, Duplicates and Refused count this run; Confirmed, Rejected, Cancelled and Open are the orders of this input over
// all runs, as they stood at the end.
type Summary struct {
	Rows       int `json:"rows"`       // lines of the invoices that were sent, and the bad ones; of made-up input: events
	BadRows    int `json:"bad_rows"`   // lines that can't be read
	Invoices   int `json:"invoices"`   // orders that were to be sent
	Placed     int `json:"placed"`     // orders that are new
	Duplicates int `json:"duplicates"` // orders that were there already
	Refused    int `json:"refused"`    // orders that break a rule

	Confirmed int `json:"confirmed"`
	Rejected  int `json:"rejected"`
	Cancelled int `json:"cancelled"`
	Open      int `json:"open"` // neither of these three yet

	Seconds         float64 `json:"seconds"`           // from the first request for an order to the end, waiting included
	OrdersPerSecond float64 `json:"orders_per_second"` // placed and duplicates, by Seconds

	Failed        int `json:"failed,omitempty"`         // orders that got another answer than yes or no; the error tells the first
	Clicks        int `json:"clicks,omitempty"`         // clicks that were accepted
	ClicksRefused int `json:"clicks_refused,omitempty"` // clicks that were not

	ClicksTwice int `json:"clicks_twice,omitempty"` // of the clicks, those that were stored once more

	PoisonMail   int `json:"poison_mail,omitempty"`   // of the orders that were accepted, those whose mail will be refused
	PoisonClicks int `json:"poison_clicks,omitempty"` // malformed clicks that were stored, besides the others
}

func (s *Summary) measure(seconds float64) {
	s.Seconds = round(seconds)
	if seconds > 0 {
		s.OrdersPerSecond = round(float64(s.Placed+s.Duplicates) / seconds)
	}
}

func round(v float64) float64 { return math.Round(v*1e6) / 1e6 }

func (s *Summary) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(s)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(name string, n int, what string) {
		_, _ = fmt.Fprintf(t, "%s\t%d\t %s\n", name, n, what) // Flush tells the error
	}
	line("rows", s.Rows, "lines read")
	line("bad rows", s.BadRows, "lines that can't be read")
	line("invoices", s.Invoices, "orders to send")
	line("placed", s.Placed, "new")
	line("duplicates", s.Duplicates, "there already")
	line("refused", s.Refused, "break a rule")
	if s.Failed > 0 {
		line("failed", s.Failed, "neither")
	}
	line("confirmed", s.Confirmed, "of these, paid")
	line("rejected", s.Rejected, "out of stock, declined, or late")
	line("cancelled", s.Cancelled, "by the customer")
	line("open", s.Open, "not ended yet")
	if s.Clicks+s.ClicksRefused > 0 {
		line("clicks", s.Clicks, "accepted")
		line("clicks refused", s.ClicksRefused, "break a rule")
	}
	if s.ClicksTwice > 0 {
		line("clicks twice", s.ClicksTwice, "of these stored once more, past the API")
	}
	if s.PoisonMail+s.PoisonClicks > 0 {
		line("poison mail", s.PoisonMail, "orders whose mail is refused")
		line("poison clicks", s.PoisonClicks, "malformed, stored past the API")
	}
	_, _ = fmt.Fprintf(t, "seconds\t%.1f\t\n", s.Seconds)
	_, _ = fmt.Fprintf(t, "orders/s\t%.1f\t\n", s.OrdersPerSecond)
	return t.Flush()
}
