package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
)

// contents is what an archive holds.
type contents struct {
	consumers int
	messages  uint64
}

// inspect reads an archive from its beginning to its end. A truncated or damaged one is an error.
func inspect(path string) (contents, error) {
	var c contents
	err := walk(path, func(h *archive.Header, _ io.Reader) error {
		c.add(h)
		return nil
	})
	return c, err
}

func (c *contents) add(h *archive.Header) {
	switch {
	case h.Sequence > 0:
		c.messages++
	case strings.HasPrefix(h.Name, "consumers/"):
		c.consumers++
	}
}

// walk calls fn with each entry up to and with the one that marks the end.
func walk(path string, fn func(h *archive.Header, body io.Reader) error) error {
	f, err := os.Open(path) //nolint:gosec // the operator names the directory
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	entries := archive.NewReader(s2.NewReader(f))
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %s ends before its end", ErrDamaged, path)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
		}
		if err := fn(h, entries); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if h.Sequence == 0 && h.Name == "" {
			return nil
		}
	}
}

// forgetOrigins writes an archive anew, in which the copies of other streams' messages name the stream and sequence that they come from, and not which
// incarnation of that stream it was. A stream that is restored counts as made anew: the broker would take a restored origin for another stream of the same name and copy
// all of it once more.
func forgetOrigins(path string) (contents, error) {
	var c contents
	next := path + ".next"
	out, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the operator names the directory
	if err != nil {
		return c, err
	}
	packed := s2.NewWriter(out)
	entries := archive.NewWriter(packed)
	err = walk(path, func(h *archive.Header, body io.Reader) error {
		c.add(h)
		data, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		if h.Sequence > 0 && h.HeaderSize > 0 {
			header := withoutIncarnation(data[:h.HeaderSize])
			data = append(header, data[h.HeaderSize:]...)
			h.HeaderSize = int64(len(header))
		}
		if err := entries.WriteHeader(h); err != nil {
			return err
		}
		_, err = entries.Write(data)
		return err
	})
	err = errors.Join(err, packed.Close(), out.Sync(), out.Close())
	if err != nil {
		return c, errors.Join(fmt.Errorf("write %s: %w", next, err), os.Remove(next))
	}
	return c, os.Rename(next, path)
}

// originHeader is where the server notes what a copied message is a copy of: stream, sequence, filter, transform, subject, and since 2.15 the incarnation.
const originHeader = "Nats-Stream-Source: "

const originFields = 5

func withoutIncarnation(header []byte) []byte {
	at := bytes.Index(header, []byte("\r\n"+originHeader))
	if at < 0 {
		return bytes.Clone(header)
	}
	at += len("\r\n" + originHeader)
	length := bytes.Index(header[at:], []byte("\r\n"))
	if length < 0 {
		return bytes.Clone(header)
	}
	fields := strings.Split(string(header[at:at+length]), " ")
	if len(fields) <= originFields {
		return bytes.Clone(header)
	}
	out := append([]byte(nil), header[:at]...)
	out = append(out, strings.Join(fields[:originFields], " ")...)
	return append(out, header[at+length:]...)
}
