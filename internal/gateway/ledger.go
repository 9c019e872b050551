package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Kind says what a line of the ledger records.
type Kind string

// The kinds of ledger lines. They are also the states of a payment.
const (
	Captured Kind = "captured"
	Declined Kind = "declined"
	Voided   Kind = "voided"
)

// Entry is one line of the ledger. Amount and currency are empty where a key was voided that had never been charged.
type Entry struct {
	At          time.Time `json:"at"`
	Kind        Kind      `json:"kind"`
	Key         string    `json:"key"`
	PaymentID   string    `json:"payment_id"`
	OrderID     string    `json:"order_id,omitempty"`
	AmountMinor int64     `json:"amount_minor"`
	Currency    string    `json:"currency"`
}

const ledgerFile = "payments.jsonl"

// ledger is an append-only file of JSON lines. It is not safe for use by many goroutines.
type ledger struct {
	file *os.File
	size int64 // the end of the last whole line
}

// openLedger reads every line into apply and makes the file ready for more.
func openLedger(dir string, log *slog.Logger, apply func(Entry)) (*ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	path := filepath.Join(dir, ledgerFile)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l := &ledger{file: file}
	if err := l.replay(log, apply); err != nil {
		return nil, errors.Join(fmt.Errorf("read ledger %s: %w", path, err), file.Close())
	}
	return l, nil
}

func (l *ledger) replay(log *slog.Logger, apply func(Entry)) error {
	r := bufio.NewReader(l.file)
	for number := 1; ; number++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return l.cut(log, len(line))
		}
		if err != nil {
			return err
		}
		var e Entry
		if err := json.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
			return fmt.Errorf("line %d: %w", number, err) // a whole line that can't be read is damage, not a kill: guessing would invent money
		}
		apply(e)
		l.size += int64(len(line))
	}
}

// cut removes the half line that a kill left behind.
func (l *ledger) cut(log *slog.Logger, torn int) error {
	if torn == 0 {
		return nil
	}
	log.Warn("ledger ends in the middle of a line, which was never answered: cut off", "bytes", torn)
	return l.file.Truncate(l.size)
}

// append writes one line. When it returns nil, the operating system has it.
func (l *ledger) append(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	line = append(line, '\n')
	if _, err := l.file.WriteAt(line, l.size); err != nil {
		return errors.Join(fmt.Errorf("write ledger: %w", err), l.file.Truncate(l.size)) // a full disk must not leave half a line
	}
	l.size += int64(len(line))
	return nil
}

// section reads what is in the ledger now, also while it grows.
func (l *ledger) section() io.Reader { return io.NewSectionReader(l.file, 0, l.size) }

func (l *ledger) close() error {
	return errors.Join(l.file.Sync(), l.file.Close())
}
