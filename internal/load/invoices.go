package load

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tidemark/tidemark/internal/client"
)

// plan is what a first reading of the file finds out: how many lines each invoice has, so that a second reading knows when one is complete. Lines
// of one invoice may stand apart, and a whole file may be too large to hold.
type plan struct {
	rows     int // lines of the invoices that are sent, and the bad ones
	bad      int
	lines    map[string]int // by invoice
	skus     []string       // in the order in which they are met
	invoices int

	first  time.Time // of the first invoice
	delays delays
	turns  []int // of late invoices, by their place in the file; nil: they are sent in the order of the file
}

// invoice is all lines of one invoice; its time and customer are those of its first line.
type invoice struct {
	number   string
	at       time.Time
	customer string
	lines    []client.Line
	missing  int // lines that are still to come

	due  time.Time // when it is sent, on the file's clock: its time and its delay
	turn int       // its place in the order of sending
}

func (v *invoice) order() client.NewOrder {
	o := client.NewOrder{Customer: v.customer, Currency: "GBP", PlacedAt: v.at, Lines: v.lines}
	if v.customer != "" {
		o.Email = v.customer + "@customers.example"
	}
	return o
}

// survey reads the file once. limit is the most invoices, 0: all. bad is told of every line that can't be read.
func survey(name string, limit int, late delays, bad func(error)) (*plan, error) {
	p := &plan{lines: make(map[string]int), delays: late}
	seen := make(map[string]bool)
	var dues []time.Time
	err := eachRow(name, func(r row) error {
		n, known := p.lines[r.invoice]
		if !known && limit > 0 && len(p.lines) == limit {
			return nil
		}
		if known {
			p.lines[r.invoice] = n + 1
		} else {
			if len(p.lines) == 0 {
				p.first = r.at
			}
			dues = append(dues, r.at.Add(late.of(len(p.lines))))
			p.lines[strings.Clone(r.invoice)] = 1 // a clone: the field would keep its whole line in memory
		}
		p.rows++
		if !seen[r.sku] {
			sku := strings.Clone(r.sku)
			seen[sku] = true
			p.skus = append(p.skus, sku)
		}
		return nil
	}, func(err error) {
		p.bad++
		p.rows++
		bad(err)
	})
	p.invoices = len(p.lines)
	if late.stretch > 0 {
		p.turns = turns(dues)
	}
	return p, err
}

// turns are the places of times in their order; of equal ones the first is first.
func turns(dues []time.Time) []int {
	byDue := make([]int, len(dues))
	for i := range byDue {
		byDue[i] = i
	}
	slices.SortStableFunc(byDue, func(a, b int) int { return dues[a].Compare(dues[b]) })
	turn := make([]int, len(dues))
	for at, i := range byDue {
		turn[i] = at
	}
	return turn
}

// eachInvoice reads the file again and hands over the invoices of the plan, in the order of sending: that of their first lines, or of time and delay. It
// holds those alone that wait for lines or for their turn.
func eachInvoice(name string, p *plan, yield func(*invoice) error) error {
	open := make(map[string]*invoice)
	ready := make(map[int]*invoice) // by turn
	met, taken := 0, 0
	err := eachRow(name, func(r row) error {
		v := open[r.invoice]
		if v == nil {
			missing := p.lines[r.invoice]
			if missing == 0 {
				return nil // beyond the limit
			}
			v = &invoice{number: r.invoice, at: r.at, customer: r.customer, missing: missing, due: r.at.Add(p.delays.of(met)), turn: met}
			if p.turns != nil {
				v.turn = p.turns[met]
			}
			open[r.invoice] = v
			met++
		}
		v.lines = append(v.lines, client.Line{SKU: r.sku, Quantity: r.quantity, UnitPrice: r.price})
		v.missing--
		if v.missing == 0 {
			ready[v.turn] = v
			delete(open, v.number)
			delete(p.lines, v.number)
		}
		for ready[taken] != nil {
			if err := yield(ready[taken]); err != nil {
				return err
			}
			delete(ready, taken)
			taken++
		}
		if taken == p.invoices {
			return errEnough
		}
		return nil
	}, func(error) {}) // reported by the first reading
	if errors.Is(err, errEnough) {
		return nil
	}
	if err == nil && taken < p.invoices {
		return fmt.Errorf("%w: %s: changed while it was read", ErrUsage, name)
	}
	return err
}

var errEnough = errors.New("all invoices are read")

func eachRow(name string, yield func(row) error, bad func(error)) (err error) {
	f, err := openFile(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	for {
		r, err := f.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case isBad(err):
			bad(err)
		case err != nil:
			return err
		default:
			if err := yield(r); err != nil {
				return err
			}
		}
	}
}

func isBad(err error) bool {
	_, bad := errors.AsType[*badLine](err)
	return bad
}
