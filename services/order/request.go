package order

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
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

// errSyntax: the body is no JSON at all, so nothing can be said about its fields.
var errSyntax = errors.New("body is not valid JSON")

// decodeRequest reads a body. It goes on behind a field of the wrong type, so that all of them are named, and reports fields that it does not know or that
// come twice: a misspelt field would be lost silently. The error wraps errSyntax.
func decodeRequest(raw []byte) (request, faults, error) {
	if !utf8.Valid(raw) {
		return request{}, faults{}, fmt.Errorf("%w: it is not UTF-8", errSyntax)
	}
	d := decoder{json: json.NewDecoder(bytes.NewReader(raw))}
	d.json.UseNumber()
	var r request
	err := d.request(&r)
	if err == nil {
		err = d.end()
	}
	if err != nil {
		return request{}, faults{}, fmt.Errorf("%w: %w", errSyntax, err)
	}
	return r, d.faults, nil
}

// decoder reads JSON token by token. Its errors are of syntax; what is wrong in meaning goes to faults.
type decoder struct {
	json   *json.Decoder
	faults faults
}

func (d *decoder) request(r *request) error {
	return d.object(body(""), func(at location) error {
		switch at.field {
		case "customer":
			return d.text(at, &r.Customer)
		case "email":
			return d.text(at, &r.Email)
		case "currency":
			return d.text(at, &r.Currency)
		case "placed_at":
			return d.text(at, &r.PlacedAt)
		case "lines":
			return d.lines(at, &r.Lines)
		}
		return d.unknown(at)
	})
}

func (d *decoder) lines(at location, into *[]requestLine) error {
	open, err := d.open(at, '[', "an array of lines")
	if !open {
		return err
	}
	*into = make([]requestLine, 0, 16)
	for d.json.More() {
		if len(*into) == maxLines {
			d.faults.missing(at, fmt.Sprintf("must have at most %d lines", maxLines))
			if err := d.skip(); err != nil {
				return err
			}
			continue
		}
		var l requestLine
		if err := d.line(len(*into), &l); err != nil {
			return err
		}
		*into = append(*into, l)
	}
	_, err = d.json.Token()
	return err
}

func (d *decoder) line(number int, l *requestLine) error {
	return d.object(ofLine(number, ""), func(at location) error {
		switch at.field {
		case "sku":
			return d.text(at, &l.SKU)
		case "quantity":
			return d.number(at, &l.Quantity)
		case "unit_price":
			return d.text(at, &l.UnitPrice)
		}
		return d.unknown(at)
	})
}

// object reads an object and calls field for each of its names, with its place.
func (d *decoder) object(at location, field func(location) error) error {
	open, err := d.open(at, '{', "an object")
	if !open {
		return err
	}
	seen := make([]string, 0, maxFields)
	for d.json.More() {
		token, err := d.json.Token()
		if err != nil {
			return err
		}
		at.field, _ = token.(string) // the decoder lets nothing else be a name
		if slices.Contains(seen, at.field) {
			d.faults.add(at, "comes twice", nil)
		}
		if len(seen) < maxFields {
			seen = append(seen, at.field)
		}
		if err := field(at); err != nil {
			return err
		}
	}
	_, err = d.json.Token()
	return err
}

// maxFields bounds the search for names that come twice. No object has more known fields.
const maxFields = 8

// open reads the beginning of an object or array. Where something else stands, it is reported and skipped.
func (d *decoder) open(at location, want json.Delim, what string) (bool, error) {
	token, err := d.json.Token()
	if err != nil {
		return false, err
	}
	if token == want {
		return true, nil
	}
	d.faults.add(at, "must be "+what, nil)
	return false, d.rest(token)
}

// text reads a string. null is taken as absent.
func (d *decoder) text(at location, into **string) error {
	token, err := d.json.Token()
	if err != nil {
		return err
	}
	switch v := token.(type) {
	case nil:
		return nil
	case string:
		*into = &v
		return nil
	case json.Number:
		d.faults.add(at, "must be a string, in quotes", shown(v.String()))
		return nil
	}
	d.faults.add(at, "must be a string", nil)
	return d.rest(token)
}

func (d *decoder) number(at location, into **json.Number) error {
	token, err := d.json.Token()
	if err != nil {
		return err
	}
	switch v := token.(type) {
	case nil:
		return nil
	case json.Number:
		*into = &v
		return nil
	}
	d.faults.add(at, "must be a whole number, without quotes", nil)
	return d.rest(token)
}

func (d *decoder) unknown(at location) error {
	d.faults.add(at, "unknown field", nil)
	return d.skip()
}

// skip reads one value and forgets it.
func (d *decoder) skip() error {
	token, err := d.json.Token()
	if err != nil {
		return err
	}
	return d.rest(token)
}

// rest skips what is left of a value whose first token was read.
func (d *decoder) rest(first json.Token) error {
	depth := 0
	for token := first; ; {
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
		var err error
		if token, err = d.json.Token(); err != nil {
			return err
		}
	}
}

// end makes sure that nothing follows.
func (d *decoder) end() error {
	if _, err := d.json.Token(); !errors.Is(err, io.EOF) {
		return errors.New("it goes on after its end")
	}
	return nil
}
