package deadletter_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

func TestFingerprint(t *testing.T) {
	t.Parallel()
	base := deadletter.Cause{Reason: deadletter.ReasonPermanent, Handler: "h", EventType: "t.v1", Frame: "pkg.f", Err: errors.New(`order o-17: sku "A 4": 550 for 7f3a91bc`)}
	with := func(change func(*deadletter.Cause)) string {
		c := base
		change(&c)
		return c.Fingerprint()
	}
	same := map[string]string{
		"other ids": with(func(c *deadletter.Cause) { c.Err = errors.New(`order o-99: sku "B": 550 for 00aa91bc`) }),
		"an id without a digit": with(func(c *deadletter.Cause) {
			c.Err = errors.New(`order ltrrjfqkmtzpntosjxnzsercla: sku "B": 550 for 00aa91bc`)
		}),
		"a wrapping": with(func(c *deadletter.Cause) { c.Err = fmt.Errorf("%w", base.Err) }),
	}
	for name, got := range same {
		if got != base.Fingerprint() {
			t.Errorf("%s: another fingerprint", name)
		}
	}
	others := map[string]string{
		"reason":  with(func(c *deadletter.Cause) { c.Reason = deadletter.ReasonExhausted }),
		"handler": with(func(c *deadletter.Cause) { c.Handler = "g" }),
		"type":    with(func(c *deadletter.Cause) { c.EventType = "t.v2" }),
		"frame":   with(func(c *deadletter.Cause) { c.Frame = "pkg.g" }),
		"code":    with(func(c *deadletter.Cause) { c.Code = "x" }),
		"text":    with(func(c *deadletter.Cause) { c.Err = io.EOF }),
		"error's type": with(func(c *deadletter.Cause) {
			c.Err = &fs.PathError{Op: "order", Path: "o-17", Err: errors.New(`sku "A 4": 550 for 7f3a91bc`)}
		}),
	}
	seen := map[string]string{base.Fingerprint(): "base"}
	for name, got := range others {
		if twin, twice := seen[got]; twice {
			t.Errorf("%s and %s have the same fingerprint", name, twin)
		}
		seen[got] = name
	}
}

func TestScrub(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"550 no such user ann.o'hara+x@mail.example.com here": "550 no such user [email] here",
		"card 4111 1111 1111 1111 declined":                   "card [number] declined",
		"card 4111-1111-1111-1111, 5500005555555559":          "card [number], [number]",
		"call +49 30 1234 5678 90":                            "call [number]",
		"dial amqp://bob:pa55@host/":                          "dial amqp://[credentials]@host/",
		"Authorization: Bearer abc.def":                       "Authorization: Bearer [secret]",
		`password="hunter2"`:                                  `password="[secret]"`,
		"order 536365 at 12:30:11 took 1500 ms":               "order 536365 at 12:30:11 took 1500 ms",
		"sequence 123456789":                                  "sequence 123456789",
	} {
		if got := deadletter.Scrub(in); got != want {
			t.Errorf("Scrub(%q) = %q, want %q", in, got, want)
		}
	}
}
