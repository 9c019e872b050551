package order

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// errSyntax: the body is no JSON at all, so nothing can be said about its fields.
var errSyntax = errors.New("body is not valid JSON")

// scanner reads the tokens of a text that is known to be valid JSON. That makes it simple: commas and colons can be passed over like white space, and no token
// ends too early. It exists because every order comes through here, and json.Decoder.Token allocates for each token.
type scanner struct {
	data []byte
	at   int
}

// token is one token: its raw bytes, of which the first tells its kind: { } [ ] " t f n, a digit or a minus.
type token []byte

// newScanner checks the text. The error wraps errSyntax.
func newScanner(data []byte) (*scanner, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%w: it is not UTF-8", errSyntax)
	}
	if !json.Valid(data) {
		var nothing ignored
		return nil, fmt.Errorf("%w: %w", errSyntax, json.Unmarshal(data, &nothing)) // which says where
	}
	return &scanner{data: data}, nil
}

type ignored struct{}

func (*ignored) UnmarshalJSON([]byte) error { return nil }

// peek is the kind of the next token; 0 at the end.
func (s *scanner) peek() byte {
	for ; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) next() token {
	kind, start := s.peek(), s.at
	switch kind {
	case '{', '}', '[', ']':
		s.at++
	case '"':
		s.at += 1 + endOfString(s.data[s.at+1:])
	default:
		for s.at < len(s.data) && strings.IndexByte(" \t\r\n,:]}", s.data[s.at]) < 0 {
			s.at++
		}
	}
	return s.data[start:s.at]
}

// endOfString is the length of a string behind its first quote, with the last one.
func endOfString(data []byte) int {
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

func (t token) kind() byte { return t[0] }

func (t token) isNumber() bool { return t[0] == '-' || t[0] >= '0' && t[0] <= '9' }

// text is what a string token says.
func (t token) text() string {
	if bytes.IndexByte(t, '\\') < 0 {
		return string(t[1 : len(t)-1])
	}
	var s string
	_ = json.Unmarshal(t, &s) // it is valid
	return s
}

// skip passes over what is left of the value that began with first.
func (s *scanner) skip(first token) {
	for depth := 0; ; first = s.next() {
		switch first.kind() {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth == 0 {
			return
		}
	}
}
