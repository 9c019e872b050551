package mailsink

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"unicode/utf8"
)

type message struct {
	messageID string // without the angle brackets; may be empty
	subject   string
	body      string
}

// maxParts and maxDepth bound what a mail may make the reader of its parts do.
const (
	maxParts = 32
	maxDepth = 4
)

// parseMessage reads what the listing shows: the Message-ID, the subject and the text, both decoded. A body that can't be decoded is shown as it came;
// only a mail without a readable header is an error.
func parseMessage(r io.Reader) (message, error) {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return message{}, fmt.Errorf("header: %w", err)
	}
	raw, err := io.ReadAll(m.Body)
	if err != nil {
		return message{}, fmt.Errorf("body: %w", err)
	}
	header := m.Header
	out := message{
		messageID: strings.Trim(strings.TrimSpace(header.Get("Message-Id")), "<>"),
		subject:   decodeWords(header.Get("Subject")),
	}
	text, err := readText(header.Get("Content-Type"), header.Get("Content-Transfer-Encoding"), string(raw), maxDepth)
	if err != nil {
		text = strings.ToValidUTF8(string(raw), "\uFFFD")
	}
	out.body = strings.ReplaceAll(text, "\r\n", "\n")
	return out, nil
}

func decodeWords(s string) string {
	decoded, err := new(mime.WordDecoder).DecodeHeader(s)
	if err != nil { // a charset that the standard library does not know
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ToValidUTF8(decoded, "\uFFFD")
}

var errNoText = errors.New("no text part")

// readText is the text of a part; of several parts, the first that is plain text.
func readText(contentType, encoding, raw string, depth int) (string, error) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind, params = "text/plain", nil // RFC 2045 §5.2: what can't be read is plain text
	}
	if strings.HasPrefix(kind, "multipart/") {
		return firstText(raw, params["boundary"], depth)
	}
	if !strings.HasPrefix(kind, "text/") {
		return "", errNoText
	}
	data, err := io.ReadAll(decoder(encoding, strings.NewReader(raw)))
	if err != nil {
		return "", fmt.Errorf("decode %s: %w", encoding, err)
	}
	return toUTF8(data, params["charset"]), nil
}

func firstText(raw, boundary string, depth int) (string, error) {
	if depth == 0 || boundary == "" {
		return "", errNoText
	}
	parts := multipart.NewReader(strings.NewReader(raw), boundary)
	for range maxParts {
		part, err := parts.NextRawPart()
		if err != nil {
			return "", errNoText
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return "", errNoText
		}
		text, err := readText(part.Header.Get("Content-Type"), part.Header.Get("Content-Transfer-Encoding"), string(data), depth-1)
		if err == nil {
			return text, nil
		}
	}
	return "", errNoText
}

func decoder(encoding string, r io.Reader) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "quoted-printable":
		return quotedprintable.NewReader(r)
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, r)
	}
	return r
}

// toUTF8 reads the charsets that mails are still written in; what is none of them keeps its readable bytes.
func toUTF8(data []byte, charset string) string {
	if strings.EqualFold(charset, "iso-8859-1") && !utf8.Valid(data) {
		runes := make([]rune, len(data))
		for i, b := range data {
			runes[i] = rune(b)
		}
		return string(runes)
	}
	return strings.ToValidUTF8(string(data), "\uFFFD")
}
