package mailsink

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Mail is one mail that the sink took, as the listing shows it.
type Mail struct {
	ID        string    `json:"id" doc:"number of the mail in the ledger, 1 for the first"`
	MessageID string    `json:"message_id" doc:"without angle brackets; empty where the mail had none"`
	From      string    `json:"from"`
	To        []string  `json:"to"`
	Subject   string    `json:"subject"`
	At        time.Time `json:"at" doc:"when it was taken"`
	Attempts  int       `json:"attempts" doc:"how often a mail with this Message-ID was handed in, refusals included"`
	Refused   int       `json:"refused" doc:"how many of the attempts were refused"`
	Body      string    `json:"body" doc:"the text, decoded"`
}

// ErrLedger is wrapped where the ledger holds what the sink never writes.
var ErrLedger = errors.New("the mail ledger is damaged")

// The kinds of lines in the ledger.
const (
	kindAccepted = "accepted"
	kindRepeated = "repeated" // accepted, and accepted before
	kindRefused  = "refused"
)

// line is one line of the ledger. Body is last, so that a start can read the rest without it.
type line struct {
	Kind      string    `json:"kind"`
	At        time.Time `json:"at"`
	MessageID string    `json:"message_id"`
	Code      int       `json:"code,omitempty"`
	From      string    `json:"from,omitempty"`
	To        []string  `json:"to,omitempty"`
	Subject   string    `json:"subject,omitempty"`
	Body      string    `json:"body"`
}

// bodyMark is where the body begins. Inside of a JSON text every quote is escaped, so it stands nowhere else.
const bodyMark = `,"body":"`

// digest stands for a Message-ID. It is cryptographic because Message-IDs come from outside: two of them must not be made to look the same.
type digest [16]byte

func digestOf(messageID string) digest {
	sum := sha256.Sum256([]byte(messageID))
	return digest(sum[:16])
}

type entry struct {
	offset   int64
	length   int32
	repeated uint32
	refused  uint32
}

// maxRefused bounds how many Message-IDs are remembered that were refused and not accepted yet.
const maxRefused = 100_000

// ledger is the append-only file and its index in memory. It is safe for use by many goroutines.
type ledger struct {
	mu          sync.RWMutex
	file        *os.File
	end         int64
	mails       []entry
	byMessageID map[digest]uint32   // to the index in mails
	byRecipient map[uint64][]uint32 // by hash of the address; the address itself is compared when the mail is read
	refused     map[digest]uint32   // refusals of what was not accepted yet
	seed        maphash.Seed
}

func openLedger(dir string) (*ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open mail ledger: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, ledgerFile), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator says where
	if err != nil {
		return nil, fmt.Errorf("open mail ledger: %w", err)
	}
	l := &ledger{
		file: file, byMessageID: make(map[digest]uint32), byRecipient: make(map[uint64][]uint32), refused: make(map[digest]uint32), seed: maphash.MakeSeed(),
	}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open mail ledger %s: %w", file.Name(), err), file.Close())
	}
	return l, nil
}

// load reads the index out of the file, and cuts off a last line without an end: its sender never heard that it was taken.
func (l *ledger) load() error {
	r := bufio.NewReaderSize(l.file, 1<<20)
	for number := 1; ; number++ {
		raw, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		entry, err := readHead(raw)
		if err != nil {
			return fmt.Errorf("%w: line %d: %w", ErrLedger, number, err)
		}
		l.index(entry, len(raw))
	}
	return l.cut()
}

// readHead reads a line without its body.
func readHead(raw []byte) (line, error) {
	if i := bytes.Index(raw, []byte(bodyMark)); i >= 0 {
		raw = append(slices.Clone(raw[:i]), '}')
	}
	var v line
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, err
	}
	switch v.Kind {
	case kindAccepted, kindRepeated, kindRefused:
		return v, nil
	}
	return v, fmt.Errorf("kind %q is unknown", v.Kind)
}

// head is a line of the ledger as others read it.
type head struct {
	Kind      string    `json:"kind"`
	At        time.Time `json:"at"`
	MessageID string    `json:"message_id"`
	Code      int       `json:"code,omitempty"`
}

// heads writes every line that is in the ledger, without addresses and texts.
func (l *ledger) heads(w io.Writer) error {
	l.mu.RLock()
	end := l.end
	l.mu.RUnlock()
	r := bufio.NewReaderSize(io.NewSectionReader(l.file, 0, end), 1<<20) // appended to, never changed: it can be read beside a writer
	out := bufio.NewWriterSize(w, 1<<16)
	lines := json.NewEncoder(out)
	for {
		raw, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil {
			return err
		}
		v, err := readHead(raw)
		if err != nil {
			return err
		}
		if err := lines.Encode(head{Kind: v.Kind, At: v.At, MessageID: v.MessageID, Code: v.Code}); err != nil {
			return err
		}
	}
}

// cut removes what stands behind the last whole line.
func (l *ledger) cut() error {
	if err := l.file.Truncate(l.end); err != nil {
		return err
	}
	_, err := l.file.Seek(l.end, io.SeekStart)
	return err
}

// index takes a line that is in the file into the index.
func (l *ledger) index(v line, length int) {
	offset := l.end
	l.end += int64(length)
	id := digestOf(v.MessageID)
	switch v.Kind {
	case kindRefused:
		l.indexRefused(v.MessageID, id)
	case kindRepeated:
		if at, ok := l.byMessageID[id]; ok {
			l.mails[at].repeated++
		}
	case kindAccepted:
		at := uint32(len(l.mails))                                                                      //nolint:gosec // four billion mails do not fit into memory
		l.mails = append(l.mails, entry{offset: offset, length: int32(length), refused: l.refused[id]}) //nolint:gosec // a mail has 1 MiB at most
		if v.MessageID != "" {
			l.byMessageID[id] = at
			delete(l.refused, id)
		}
		for _, to := range v.To {
			key := l.recipient(to)
			if list := l.byRecipient[key]; len(list) == 0 || list[len(list)-1] != at {
				l.byRecipient[key] = append(list, at)
			}
		}
	}
}

func (l *ledger) indexRefused(messageID string, id digest) {
	if messageID == "" {
		return
	}
	if at, ok := l.byMessageID[id]; ok {
		l.mails[at].refused++
		return
	}
	if _, known := l.refused[id]; known || len(l.refused) < maxRefused {
		l.refused[id]++
	}
}

func (l *ledger) recipient(address string) uint64 {
	return maphash.String(l.seed, strings.ToLower(address))
}

// accept writes a mail, or, if one with its Message-ID was accepted before, that it came again.
func (l *ledger) accept(m Mail) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := line{Kind: kindAccepted, At: m.At, MessageID: m.MessageID, From: m.From, To: m.To, Subject: m.Subject, Body: m.Body}
	if _, known := l.byMessageID[digestOf(m.MessageID)]; known && m.MessageID != "" {
		v = line{Kind: kindRepeated, At: m.At, MessageID: m.MessageID}
	}
	return l.append(v)
}

// refuse writes that a mail was refused.
func (l *ledger) refuse(messageID string, code int, at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(line{Kind: kindRefused, At: at.UTC(), MessageID: messageID, Code: code})
}

func (l *ledger) append(v line) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write mail ledger: %w", err)
	}
	raw = append(raw, '\n')
	if _, err := l.file.Write(raw); err != nil {
		return errors.Join(fmt.Errorf("write mail ledger: %w", err), l.cut()) // half a line must not stay in the middle
	}
	l.index(v, len(raw))
	return nil
}

// total is the number of mails.
func (l *ledger) total() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.mails)
}

// page reads mails, oldest first, or newest first, and says how many there are in all. An empty address means all mails.
func (l *ledger) page(address string, newest bool, offset, limit int) (int, []Mail, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	total := len(l.mails)
	at := func(i int) uint32 { return uint32(i) } //nolint:gosec // an index of mails
	if address != "" {
		list := l.byRecipient[l.recipient(address)]
		total, at = len(list), func(i int) uint32 { return list[i] }
	}
	items := make([]Mail, 0, min(limit, max(total-offset, 0)))
	for i := offset; i < total && len(items) < limit; i++ {
		place := i
		if newest {
			place = total - 1 - i
		}
		m, err := l.read(at(place))
		if err != nil {
			return 0, nil, err
		}
		if address == "" || slices.ContainsFunc(m.To, func(to string) bool { return strings.EqualFold(to, address) }) {
			items = append(items, m)
		}
	}
	return total, items, nil
}

// read reads one mail out of the file.
func (l *ledger) read(at uint32) (Mail, error) {
	e := l.mails[at]
	raw := make([]byte, e.length)
	if _, err := l.file.ReadAt(raw, e.offset); err != nil {
		return Mail{}, fmt.Errorf("read mail %d: %w", at+1, err)
	}
	var v line
	if err := json.Unmarshal(raw, &v); err != nil {
		return Mail{}, fmt.Errorf("%w: mail %d: %w", ErrLedger, at+1, err)
	}
	return Mail{
		ID: strconv.FormatUint(uint64(at)+1, 10), MessageID: v.MessageID, From: v.From, To: v.To, Subject: v.Subject, Body: v.Body, At: v.At,
		Attempts: 1 + int(e.repeated) + int(e.refused), Refused: int(e.refused),
	}, nil
}

func (l *ledger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("close mail ledger: %w", err)
	}
	return nil
}
