package mailsink

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseMessage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, raw, subject, body string }{
		{"plain", "Subject: a\r\n\r\nhello\r\n", "a", "hello\n"},
		{"base64", "Content-Transfer-Encoding: base64\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nY2Fmw6k=\r\n", "", "café"},
		{"latin1", "Content-Type: text/plain; charset=iso-8859-1\r\n\r\ncaf\xe9", "", "café"},
		{"encoded words", "Subject: =?UTF-8?B?Y2Fmw6k=?= =?UTF-8?q?_au_lait?=\r\n\r\n", "café au lait", ""},
		{"unknown charset of a word", "Subject: =?klingon?q?x?=\r\n\r\n", "=?klingon?q?x?=", ""},
		{"bad base64 is shown as it came", "Content-Transfer-Encoding: base64\r\n\r\n%%%", "", "%%%"},
		{
			"first text of several parts",
			"Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: image/png\r\n\r\nx\r\n--B\r\nContent-Type: text/plain\r\n\r\ntext\r\n--B--\r\n", "", "text",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m, err := parseMessage(strings.NewReader(tc.raw))
			if err != nil || m.subject != tc.subject || m.body != tc.body {
				t.Errorf("got %+v, %v", m, err)
			}
		})
	}
}

// A mail can be anything; what is shown is always text.
func FuzzParseMessage(f *testing.F) {
	f.Add("Message-ID: <a@b>\r\nSubject: =?UTF-8?q?=C3=A9?=\r\n\r\nhello")
	f.Add("Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\n\r\ntext\r\n--B--")
	f.Add("Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=E9=\r\n")
	f.Fuzz(func(t *testing.T, raw string) {
		m, err := parseMessage(strings.NewReader(raw))
		if err == nil && (!utf8.ValidString(m.subject) || !utf8.ValidString(m.body)) {
			t.Errorf("subject %q, body %q are not UTF-8", m.subject, m.body)
		}
	})
}

// Whatever line the ledger holds, reading it again gives the index what was written, and no input makes it panic.
func FuzzReadHead(f *testing.F) {
	f.Add([]byte(`{"kind":"accepted","at":"2026-01-02T03:04:05Z","message_id":"a","to":["x"],"subject":",\"body\":\"","body":"hi"}` + "\n"))
	f.Add([]byte("nonsense\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if v, err := readHead(raw); err == nil && v.Body != "" && strings.Contains(string(raw), bodyMark) {
			t.Errorf("the body was read: %q", v.Body)
		}
	})
}
