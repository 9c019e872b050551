package order

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// request is an order as it was sent: strings and numbers are kept as they stood, nothing is checked but the shape.
type request struct {
	Customer *string       `json:"customer,omitempty"`
	Email    *string       `json:"email,omitempty"`
	Currency *string       `json:"currency,omitempty"`
	PlacedAt *string       `json:"placed_at,omitempty"`
	Lines    []requestLine `json:"lines"`
}

type requestLine struct {
	SKU       *string      `json:"sku,omitempty"`
	Quantity  *json.Number `json:"quantity,omitempty"`
	UnitPrice *string      `json:"unit_price,omitempty"`
}

// digest is the SHA-256 of the request, written in one way: two bodies that differ in white space or in the order of their fields are the same request,
// while "1.5" and "1.50" are not.
func (r request) digest() (string, error) {
	canonical, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("digest of the request: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}

// decodeRequest reads a body. It goes on behind a field of the wrong type, so that all of them are named, and reports fields that it does not know or that
// come twice: a misspelt field would be lost silently. The error wraps errSyntax.
func decodeRequest(raw []byte) (request, faults, error) {
	s, err := newScanner(raw)
	if err != nil {
		return request{}, faults{}, err
	}
	d := decoder{scanner: s}
	var r request
	d.request(&r)
	return r, d.faults, nil
}

// decoder reads a request and collects what is wrong with it.
type decoder struct {
	*scanner
	faults faults
}

func (d *decoder) request(r *request) {
	d.object(body(""), func(at location) {
		switch at.field {
		case "customer":
			d.string(at, &r.Customer)
		case "email":
			d.string(at, &r.Email)
		case "currency":
			d.string(at, &r.Currency)
		case "placed_at":
			d.string(at, &r.PlacedAt)
		case "lines":
			d.lines(at, &r.Lines)
		default:
			d.unknown(at)
		}
	})
}

func (d *decoder) lines(at location, into *[]requestLine) {
	if !d.open(at, '[', "an array of lines") {
		return
	}
	*into = make([]requestLine, 0, 16)
	for d.peek() != ']' {
		if len(*into) == maxLines {
			d.faults.missing(at, fmt.Sprintf("must have at most %d lines", maxLines))
			d.skip(d.next())
			continue
		}
		var l requestLine
		d.line(len(*into), &l)
		*into = append(*into, l)
	}
	d.next()
}

func (d *decoder) line(number int, l *requestLine) {
	d.object(ofLine(number, ""), func(at location) {
		switch at.field {
		case "sku":
			d.string(at, &l.SKU)
		case "quantity":
			d.number(at, &l.Quantity)
		case "unit_price":
			d.string(at, &l.UnitPrice)
		default:
			d.unknown(at)
		}
	})
}

// object reads an object and calls field for each of its names, with its place.
func (d *decoder) object(at location, field func(location)) {
	if !d.open(at, '{', "an object") {
		return
	}
	var seen [maxFields]string // no object has more known fields, so the search for names that come twice is bounded
	for n := 0; d.peek() != '}'; n++ {
		at.field = d.next().text()
		if slices.Contains(seen[:min(n, maxFields)], at.field) {
			d.faults.add(at, "comes twice", nil)
		}
		if n < maxFields {
			seen[n] = at.field
		}
		field(at)
	}
	d.next()
}

const maxFields = 8

// open reads the beginning of an object or array. Where something else stands, it is reported and passed over.
func (d *decoder) open(at location, want byte, what string) bool {
	t := d.next()
	if t.kind() == want {
		return true
	}
	d.faults.add(at, "must be "+what, nil)
	d.skip(t)
	return false
}

// string reads a string. null is taken as absent.
func (d *decoder) string(at location, into **string) {
	t := d.next()
	switch {
	case t.kind() == '"':
		s := t.text()
		*into = &s
	case t.kind() == 'n':
	case t.isNumber():
		d.faults.add(at, "must be a string, in quotes", shown(string(t)))
	default:
		d.faults.add(at, "must be a string", nil)
		d.skip(t)
	}
}

func (d *decoder) number(at location, into **json.Number) {
	t := d.next()
	switch {
	case t.isNumber():
		n := json.Number(t)
		*into = &n
	case t.kind() == 'n':
	default:
		d.faults.add(at, "must be a whole number, without quotes", nil)
		d.skip(t)
	}
}

func (d *decoder) unknown(at location) {
	d.faults.add(at, "unknown field", nil)
	d.skip(d.next())
}
