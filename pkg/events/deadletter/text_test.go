package deadletter

import (
	"strings"
	"testing"
)

func TestLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1500)
	for in, want := range map[string]string{"a\r\nb\tc": "a  b c", " x \x00": "x", "caf\xe9": "caf", "naïve": "naïve", long: long[:1024]} {
		if got := line(in, mostError); got != want {
			t.Errorf("line(%.20q) = %.20q (%d bytes), want %.20q", in, got, len(got), want)
		}
	}
}

func TestLinesInAHeader(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "one", "two\nlines", "100%\n%0A as text", "a\n  b"} {
		packed := packLines(in, mostStack)
		if strings.ContainsAny(packed, "\r\n") {
			t.Errorf("%q has a line end", packed)
		}
		if got := unpackLines(packed); got != in {
			t.Errorf("%q came back as %q", in, got)
		}
	}
	for most := 5; most < 9; most++ { // a cut inside of an escape
		if got := unpackLines(packLines("abcd%\n%", most)); strings.Contains(got, "%2") || strings.HasSuffix(got, "%0") {
			t.Errorf("cut at %d: %q", most, got)
		}
	}
}
