package order

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/currency"

	"github.com/tidemark/tidemark/pkg/events"
)

// The limits of a request. They are part of the API.
const (
	maxLines    = 1000
	maxSKU      = 64 // characters
	maxQuantity = 1_000_000
	maxCustomer = 128 // characters
	maxEmail    = 254 // bytes: the longest address that SMTP can carry (RFC 5321, erratum 1690)
	maxAhead    = 5 * time.Minute
	maxKey      = 255
)

// validOrder is what a request means.
type validOrder struct {
	customer string // empty: a guest
	email    string
	currency string
	placedAt time.Time
	lines    []events.Line
	total    events.Minor
}

// validate checks every field and adds every fault, so that a caller can mend them all at once.
func (r request) validate(now time.Time, f *faults) validOrder {
	v := validOrder{
		customer: f.customer(r.Customer), email: f.email(r.Email), currency: f.currency(r.Currency), placedAt: f.placedAt(r.PlacedAt, now),
		lines: f.lines(r.Lines),
	}
	total, err := events.Total(v.lines)
	if err != nil {
		f.add(body("lines"), "total: "+err.Error(), nil)
	}
	v.total = total
	return v
}

func (f *faults) customer(s *string) string {
	if s == nil || *s == "" {
		return ""
	}
	if utf8.RuneCountInString(*s) > maxCustomer || !printable(*s) {
		f.add(body("customer"), fmt.Sprintf("must have 1 to %d printable characters, or be absent", maxCustomer), shown(*s))
	}
	return *s
}

// email takes a bare address. The value is not echoed: an address belongs in no log, and answers get logged.
func (f *faults) email(s *string) string {
	if s == nil || *s == "" {
		return ""
	}
	a, err := mail.ParseAddress(*s)
	if err != nil || a.Address != *s || !printable(*s) || strings.ContainsRune(*s, ' ') {
		f.add(body("email"), "must be an address such as ann@example.org", nil)
		return ""
	}
	if len(*s) > maxEmail {
		f.add(body("email"), fmt.Sprintf("must have at most %d bytes", maxEmail), nil)
	}
	return *s
}

func (f *faults) currency(s *string) string {
	if s == nil {
		f.missing(body("currency"), "required, is missing")
		return ""
	}
	// ParseISO takes lower case too; two spellings of one currency would be two requests.
	if _, err := currency.ParseISO(*s); err != nil || strings.ToUpper(*s) != *s {
		f.add(body("currency"), "must be an ISO 4217 code in upper case, such as GBP", shown(*s))
	}
	return *s
}

// placedAt is kept in microseconds, which is what the read model holds.
func (f *faults) placedAt(s *string, now time.Time) time.Time {
	if s == nil {
		return now.UTC().Truncate(time.Microsecond)
	}
	t, err := time.Parse(time.RFC3339, *s)
	if err != nil {
		f.add(body("placed_at"), "must be an RFC 3339 time such as 2026-01-31T12:00:00Z", shown(*s))
		return now
	}
	t = t.UTC().Truncate(time.Microsecond)
	if t.After(now.Add(maxAhead)) {
		f.add(body("placed_at"), fmt.Sprintf("must be at most %s ahead of %s", maxAhead, now.UTC().Format(time.RFC3339)), shown(*s))
	}
	if t.Year() < 1 { // a zone can carry year 0 below what RFC 3339 can write
		f.add(body("placed_at"), "must be in year 1 or later", shown(*s))
	}
	return t
}

func (f *faults) lines(lines []requestLine) []events.Line {
	if len(lines) == 0 {
		f.missing(body("lines"), "must have at least one line")
	}
	out := make([]events.Line, len(lines))
	for i, l := range lines {
		out[i] = events.Line{SKU: f.sku(i, l.SKU), Quantity: f.quantity(i, l.Quantity), UnitPrice: f.unitPrice(i, l.UnitPrice)}
	}
	return out
}

func (f *faults) sku(line int, s *string) string {
	if s == nil {
		f.missing(ofLine(line, "sku"), "required, is missing")
		return ""
	}
	if *s == "" || utf8.RuneCountInString(*s) > maxSKU || !printable(*s) {
		f.add(ofLine(line, "sku"), fmt.Sprintf("must have 1 to %d printable characters", maxSKU), shown(*s))
	}
	return *s
}

func (f *faults) quantity(line int, n *json.Number) int64 {
	if n == nil {
		f.missing(ofLine(line, "quantity"), "required, is missing")
		return 0
	}
	v, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || v < 1 || v > maxQuantity {
		f.add(ofLine(line, "quantity"), fmt.Sprintf("must be a whole number from 1 to %d", maxQuantity), shown(n.String()))
		return 0
	}
	return v
}

func (f *faults) unitPrice(line int, s *string) events.Minor {
	if s == nil {
		f.missing(ofLine(line, "unit_price"), "required, is missing")
		return 0
	}
	price, err := events.ParseMinor(*s)
	if err != nil {
		rule := err.Error() // "invalid amount: \"-1\": must be 0 or more": the value stands beside it here
		f.add(ofLine(line, "unit_price"), rule[strings.LastIndex(rule, ": ")+2:], shown(*s))
	}
	return price
}

// printable reports whether every character is a letter, mark, number, symbol, punctuation or space of Unicode, or any other that shows as such.
func printable(s string) bool {
	for _, c := range s {
		if !unicode.IsGraphic(c) {
			return false
		}
	}
	return true
}

// maxShown is how much of a bad value is told back.
const maxShown = 80

func shown(s string) string {
	if short := truncate(s, maxShown); short != s {
		return short + "…"
	}
	return s
}

var errKey = errors.New("must have 1 to 255 printable ASCII characters")

// validKey checks an idempotency key.
func validKey(key string) error {
	if key == "" || len(key) > maxKey {
		return errKey
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return errKey
		}
	}
	return nil
}
