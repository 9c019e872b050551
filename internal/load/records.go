package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	maxLine = 1 << 20 // bytes; a longer line is reported, not kept
	maxJoin = 16      // lines of one record: a quoted field may hold line breaks
)

var (
	errOpenQuote  = errors.New("a quoted field is not closed")
	errStrayQuote = errors.New("a quote stands inside of a field")
	errLongLine   = fmt.Errorf("is longer than %d bytes", maxLine)
)

// badLine is a line that can't be read. What follows it can.
type badLine struct {
	line int
	err  error
}

func (b *badLine) Error() string { return fmt.Sprintf("line %d: %v", b.line, b.err) }
func (b *badLine) Unwrap() error { return b.err }

// record is the fields of one record and the number of its first line.
type record struct {
	line   int
	fields []string
}

// textLine is one line of the file without its end. err says that it is too long to be kept.
type textLine struct {
	number int
	text   string
	err    error
}

// records splits comma-separated values as RFC 4180 says. It differs from encoding/csv in one thing: after a quote that is never closed it goes
// on with the next line, where encoding/csv takes the rest of the file for one field.
type records struct {
	lines  *bufio.Reader
	number int        // of the last line that was read from the file
	behind []textLine // lines that were read and then not used, oldest first
	fields []string   // reused
}

func newRecords(r io.Reader) *records { return &records{lines: bufio.NewReaderSize(r, 64<<10)} }

// next returns the next record, valid until the next call; a [*badLine] for one that can't be read; [io.EOF] at the end. Any other error is the file's.
func (r *records) next() (record, error) {
	for {
		first, err := r.line()
		switch {
		case err != nil:
			return record{}, err
		case first.err != nil:
			return record{}, &badLine{line: first.number, err: first.err}
		case first.text != "":
			return r.record(first)
		}
	}
}

// record splits the record that begins with the line, and takes more lines while a quoted field is open. Where that comes to nothing, those
// lines are read again, each as a record of its own.
func (r *records) record(first textLine) (record, error) {
	text := first.text
	fields, err := splitFields(text, r.fields[:0])
	var joined []textLine
	for errors.Is(err, errOpenQuote) && len(joined) < maxJoin {
		more, lineErr := r.line()
		if errors.Is(lineErr, io.EOF) {
			break
		}
		if lineErr != nil {
			return record{}, lineErr
		}
		joined = append(joined, more)
		if more.err != nil {
			break
		}
		text += "\n" + more.text
		fields, err = splitFields(text, r.fields[:0])
	}
	r.fields = fields
	if err != nil {
		r.behind = append(joined, r.behind...)
		return record{}, &badLine{line: first.number, err: err}
	}
	return record{line: first.number, fields: fields}, nil
}

func (r *records) line() (textLine, error) {
	if len(r.behind) > 0 {
		l := r.behind[0]
		r.behind = r.behind[1:]
		return l, nil
	}
	var text []byte
	long := false
	for {
		part, err := r.lines.ReadSlice('\n')
		long = long || len(text)+len(part) > maxLine
		if !long {
			text = append(text, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && (!errors.Is(err, io.EOF) || len(text) == 0 && !long) {
			return textLine{}, err
		}
		r.number++
		if long {
			return textLine{number: r.number, err: errLongLine}, nil
		}
		return textLine{number: r.number, text: strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")}, nil
	}
}

// splitFields splits one record, appending to into.
func splitFields(text string, into []string) ([]string, error) {
	for {
		if strings.HasPrefix(text, `"`) {
			field, rest, err := quoted(text)
			if err != nil {
				return into, err
			}
			into = append(into, field)
			if rest == "" {
				return into, nil
			}
			text = rest[1:]
			continue
		}
		field, rest, more := strings.Cut(text, ",")
		if strings.Contains(field, `"`) {
			return into, errStrayQuote
		}
		into = append(into, field)
		if !more {
			return into, nil
		}
		text = rest
	}
}

// quoted reads the quoted field that text begins with. The rest is empty or begins with a comma.
func quoted(text string) (field, rest string, err error) {
	for i := 1; i < len(text); i++ {
		if text[i] != '"' {
			continue
		}
		if i+1 < len(text) && text[i+1] == '"' {
			i++
			continue
		}
		if rest = text[i+1:]; rest != "" && rest[0] != ',' {
			return "", "", errStrayQuote
		}
		return strings.ReplaceAll(text[1:i], `""`, `"`), rest, nil
	}
	return "", "", errOpenQuote
}
