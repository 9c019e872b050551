package deadletter

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// Cause is what a fingerprint is made of.
type Cause struct {
	Reason    Reason
	Handler   string
	EventType string
	Err       error
	Code      string
	Frame     string // the function in our own module where the failure was noticed; may be empty
}

// Fingerprint is the same for failures of one cause, however their ids, numbers and texts of users differ. It does not depend on line numbers, so a new build
// that changes nothing about the cause keeps it.
func (c Cause) Fingerprint() string {
	h := sha256.New()
	for _, part := range append([]string{string(c.Reason), c.Handler, c.EventType, c.Code, c.Frame, normal(text(c.Err))}, types(c.Err)...) {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// types is the chain of an error's types, outermost first. Wrappers that say nothing are left out: a wrap more or less is no other cause.
func types(err error) []string {
	if err == nil {
		return nil
	}
	var out []string
	switch name := fmt.Sprintf("%T", err); name {
	case "*fmt.wrapError", "*fmt.wrapErrors", "*errors.joinError", "*errors.errorString":
	default:
		out = append(out, name)
	}
	switch e := err.(type) { //nolint:errorlint // each error of the tree by itself
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			out = append(out, types(inner)...)
		}
	case interface{ Unwrap() error }:
		out = append(out, types(e.Unwrap())...)
	}
	return out
}

var (
	quoted    = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|'[^']*'|`[^`]*`")
	uuid      = regexp.MustCompile(`(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
	longToken = regexp.MustCompile(`\b[A-Za-z0-9_-]*[0-9][A-Za-z0-9_-]*\b`) // a token with a digit in it: an id, a number, a hash
	bareID    = regexp.MustCompile(`\b[a-z]{26}\b`)                         // one of ours (events.NewID) that happens to have no digit, as one in 200 does
	spaces    = regexp.MustCompile(`\s+`)

	email    = regexp.MustCompile(`(?i)[a-z0-9._%+'-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+`)
	userinfo = regexp.MustCompile(`://[^/\s:@]+:[^/\s@]+@`)
	digits   = regexp.MustCompile(`\+?\b\d(?:[ .-]?\d){11,18}\b`) // card numbers, account numbers, telephone numbers with a country
	bearer   = regexp.MustCompile(`(?i)\b(bearer|basic|token|password|secret|api[_-]?key)(["']?\s*[:= ]\s*["']?)[^\s"',;]+`)
)

// normal is a message without what differs from event to event.
func normal(s string) string {
	s = Scrub(s)
	s = quoted.ReplaceAllString(s, `""`)
	s = uuid.ReplaceAllString(s, "#")
	s = longToken.ReplaceAllString(s, "#")
	s = bareID.ReplaceAllString(s, "#")
	return strings.TrimSpace(spaces.ReplaceAllString(s, " "))
}

// Scrub takes out of an error's text what must not be stored with a letter: addresses of people, numbers as long as a card's, passwords.
func Scrub(s string) string {
	s = userinfo.ReplaceAllString(s, "://[credentials]@")
	s = bearer.ReplaceAllString(s, "$1$2[secret]")
	s = email.ReplaceAllString(s, "[email]")
	return digits.ReplaceAllString(s, "[number]")
}
