package load

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // London's clock, also where the system brings no time zones
	"unicode"
	"unicode/utf8"
)

// The columns that an order is made of. Others are ignored.
const (
	columnInvoice  = "InvoiceNo"
	columnSKU      = "StockCode"
	columnQuantity = "Quantity"
	columnDate     = "InvoiceDate"
	columnPrice    = "UnitPrice"
	columnCustomer = "CustomerID"
)

var columns = [...]string{columnInvoice, columnSKU, columnQuantity, columnDate, columnPrice, columnCustomer}

const dateLayout = "2006-01-02 15:04:05"

// row is one line of an invoice. What is readable but wrong (a quantity below one, a negative price) is kept as it is: to refuse it is the API's part.
type row struct {
	invoice, sku, price, customer string
	quantity                      int64
	at                            time.Time // UTC
}

// file reads the rows of a file of invoices.
type file struct {
	name    string
	closers []io.Closer
	records *records
	width   int
	place   [len(columns)]int // the field of each column
	london  *time.Location
}

// openFile opens a file, unpacked where it begins as gzip does, and reads its header. The error wraps [ErrUsage].
func openFile(name string) (*file, error) {
	london, err := time.LoadLocation("Europe/London")
	if err != nil {
		return nil, fmt.Errorf("load London's clock: %w", err)
	}
	raw, err := os.Open(name) //nolint:gosec // the operator names the file to read
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	f := &file{name: name, closers: []io.Closer{raw}, london: london}
	if err := f.start(raw); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *file) start(raw io.Reader) error {
	plain := bufio.NewReaderSize(raw, 64<<10)
	var content io.Reader = plain
	if magic, _ := plain.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(plain)
		if err != nil {
			return f.unreadable(err)
		}
		f.closers = append(f.closers, unpacked)
		content = unpacked
	}
	f.records = newRecords(content)
	header, err := f.records.next()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s: is empty; its first line must name the columns", ErrUsage, f.name)
	}
	if err != nil {
		return f.unreadable(err)
	}
	return f.header(header.fields)
}

func (f *file) header(names []string) error {
	f.width = len(names)
	var missing []string
	for i, column := range columns {
		f.place[i] = -1
		for at, name := range names {
			if strings.EqualFold(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")), column) {
				f.place[i] = at
			}
		}
		if f.place[i] < 0 {
			missing = append(missing, column)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s: missing column: %s", ErrUsage, f.name, strings.Join(missing, ", "))
	}
	return nil
}

func (f *file) unreadable(err error) error {
	return fmt.Errorf("%w: %s: can't be read: %w", ErrUsage, f.name, err)
}

func (f *file) close() error {
	var errs []error
	for _, c := range slices.Backward(f.closers) {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// next returns the next row; a [*badLine] for one that can't be read; [io.EOF] at the end. Any other error wraps [ErrUsage].
func (f *file) next() (row, error) {
	rec, err := f.records.next()
	if _, bad := errors.AsType[*badLine](err); bad || errors.Is(err, io.EOF) {
		return row{}, err
	}
	if err != nil {
		return row{}, f.unreadable(err)
	}
	r, err := f.parse(rec.fields)
	if err != nil {
		return row{}, &badLine{line: rec.line, err: err}
	}
	return r, nil
}

func (f *file) parse(fields []string) (row, error) {
	if len(fields) != f.width {
		return row{}, fmt.Errorf("has %d fields, must have %d", len(fields), f.width)
	}
	field := func(i int) string { return strings.TrimSpace(fields[f.place[i]]) }
	r := row{invoice: field(0), sku: field(1), price: field(4), customer: strings.TrimSuffix(field(5), ".0")}
	for i, value := range []string{r.invoice, r.sku, r.price, r.customer} {
		if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			return row{}, fmt.Errorf("%s: %q is no text", [...]string{columnInvoice, columnSKU, columnPrice, columnCustomer}[i], value)
		}
	}
	if r.invoice == "" {
		return row{}, errors.New(columnInvoice + ": is empty")
	}
	var err error
	if r.quantity, err = strconv.ParseInt(field(2), 10, 64); err != nil {
		return row{}, fmt.Errorf("%s: %q is no whole number", columnQuantity, field(2))
	}
	if r.at, err = time.ParseInLocation(dateLayout, field(3), f.london); err != nil {
		return row{}, fmt.Errorf("%s: %q is no time such as 2010-12-01 08:26:00", columnDate, field(3))
	}
	r.at = r.at.UTC()
	if price, err := strconv.ParseFloat(r.price, 64); err != nil || math.IsNaN(price) || math.IsInf(price, 0) {
		return row{}, fmt.Errorf("%s: %q is no number", columnPrice, r.price)
	}
	return r, nil
}
