package load

import (
	"errors"
	"fmt"
	"io"
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
}

// invoice is all lines of one invoice; its time and customer are those of its first line.
type invoice struct {
	number   string
	at       time.Time
	customer string
	lines    []client.Line
	missing  int // lines that are still to come
}

func (v *invoice) order() client.NewOrder {
	o := client.NewOrder{Customer: v.customer, Currency: "GBP", PlacedAt: v.at, Lines: v.lines}
	if v.customer != "" {
		o.Email = v.customer + "@customers.example"
	}
	return o
}

// survey reads the file once. limit is the most invoices, 0: all. bad is told of every line that can't be read.
func survey(name string, limit int, bad func(error)) (*plan, error) {
	p := &plan{lines: make(map[string]int)}
	seen := make(map[string]bool)
	err := eachRow(name, func(r row) error {
		n, known := p.lines[r.invoice]
		if !known && limit > 0 && len(p.lines) == limit {
			return nil
		}
		if known {
			p.lines[r.invoice] = n + 1
		} else {
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
	return p, err
}

// eachInvoice reads the file again and hands over the invoices of the plan, in the order of their first lines. It holds those
// alone that wait for lines, and what stands behind them.
func eachInvoice(name string, p *plan, yield func(*invoice) error) error {
	open := make(map[string]*invoice)
	var queue []*invoice
	taken := 0
	err := eachRow(name, func(r row) error {
		v := open[r.invoice]
		if v == nil {
			missing := p.lines[r.invoice]
			if missing == 0 {
				return nil // beyond the limit
			}
			v = &invoice{number: r.invoice, at: r.at, customer: r.customer, missing: missing}
			open[r.invoice] = v
			queue = append(queue, v)
		}
		v.lines = append(v.lines, client.Line{SKU: r.sku, Quantity: r.quantity, UnitPrice: r.price})
		v.missing--
		for len(queue) > 0 && queue[0].missing == 0 {
			if err := yield(queue[0]); err != nil {
				return err
			}
			delete(open, queue[0].number)
			delete(p.lines, queue[0].number)
			queue[0], queue = nil, queue[1:]
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
