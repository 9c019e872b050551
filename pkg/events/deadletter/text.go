package deadletter

import (
	"strings"
	"unicode/utf8"
)

const (
	mostError = 1 << 10 // bytes of an error's text
	mostStack = 4 << 10 // bytes of a stack
)

// line makes any text a valid header value of at most most bytes: one line of printable UTF-8.
func line(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(cut(s, most))
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

// packLines writes several lines into one header value: a header has no line ends, so they become "%0A", and "%" becomes "%25".
func packLines(s string, most int) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "%", "%25")
	s = line(strings.ReplaceAll(strings.ReplaceAll(s, "\t", "  "), "\n", "%0A"), most)
	for i := 1; i <= 2; i++ { // a cut inside of an escape
		if n := len(s); n >= i && s[n-i] == '%' {
			s = s[:n-i]
			break
		}
	}
	return s
}

func unpackLines(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "%0A", "\n"), "%25", "%")
}
