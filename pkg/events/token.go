package events

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrInvalidToken is wrapped by every error of [Untoken].
var ErrInvalidToken = errors.New("invalid subject token")

// Token encodes any text into one safe token of a NATS subject, reversibly. Letters, digits, "-" and "_" stay; every other byte becomes "=XX"
// (upper-case hexadecimal); the empty text is "=". The result is also a valid key of a NATS key-value bucket.
func Token(s string) string {
	if s == "" {
		return "="
	}
	plain := 0
	for plain < len(s) && plainByte(s[plain]) {
		plain++
	}
	if plain == len(s) {
		return s
	}
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	b.WriteString(s[:plain])
	for i := plain; i < len(s); i++ {
		c := s[i]
		if plainByte(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('=')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// Untoken is the inverse of [Token]. It refuses what Token never writes, so that one text has one token.
func Untoken(token string) (string, error) {
	if token == "=" {
		return "", nil
	}
	if token == "" {
		return "", fmt.Errorf("%w: is empty", ErrInvalidToken)
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if plainByte(c) {
			b.WriteByte(c)
			continue
		}
		if c != '=' || i+2 >= len(token) {
			return "", fmt.Errorf("%w: %q at byte %d", ErrInvalidToken, token, i)
		}
		v, err := strconv.ParseUint(token[i+1:i+3], 16, 8)
		if err != nil || plainByte(byte(v)) || strings.ToUpper(token[i+1:i+3]) != token[i+1:i+3] {
			return "", fmt.Errorf("%w: %q at byte %d", ErrInvalidToken, token, i)
		}
		b.WriteByte(byte(v))
		i += 2
	}
	if s := b.String(); utf8.ValidString(s) {
		return s, nil
	}
	return "", fmt.Errorf("%w: %q is not valid UTF-8", ErrInvalidToken, token)
}

// Partition is the partition of a token among n: FNV-1a (32 bit) modulo n, the same that nats-server computes for
// {{partition(n,token)}}. The token is hashed as it stands in the subject, so encode first.
func Partition(token string, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(token))
	return int(h.Sum32() % uint32(n)) //nolint:gosec // n is a partition count, small and positive
}
