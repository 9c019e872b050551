package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// summary is the last line of `tidemark load --json`.
type summary struct {
	Rows       int `json:"rows"`
	BadRows    int `json:"bad_rows"`
	Invoices   int `json:"invoices"`
	Placed     int `json:"placed"`
	Duplicates int `json:"duplicates"`
	Refused    int `json:"refused"`
	Confirmed  int `json:"confirmed"`
	Rejected   int `json:"rejected"`
	Cancelled  int `json:"cancelled"`
	Open       int `json:"open"`
}

// invoices writes a CSV in the shape of the real one, as dirty as that: cancellations, write-offs, interrupted invoices, guests. It returns the file and how
// many invoices are good and bad.
func invoices(t *testing.T, n int) (file string, good, bad int) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // reproducible on purpose
	var b strings.Builder
	b.WriteString("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n")
	at := time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)
	for i := range n {
		number, quantity, customer := fmt.Sprintf("%d", 536365+i), 1+random.IntN(6), fmt.Sprintf("%d.0", 12345+random.IntN(200))
		switch {
		case i%5 == 4:
			number, quantity = "C"+number, -quantity
			bad++
		case i%7 == 6:
			customer = ""
			good++
		default:
			good++
		}
		at = at.Add(time.Duration(random.IntN(3)) * time.Minute)
		for line := range 1 + random.IntN(5) {
			fmt.Fprintf(&b, "%s,%d%c,A THING,%d,%s,%d.%02d,%s,United Kingdom\n", number, 20000+random.IntN(50), 'A'+rune(line), quantity,
				at.Format("2006-01-02 15:04:05"), random.IntN(9), random.IntN(100), customer)
		}
	}
	file = filepath.Join(t.TempDir(), "invoices.csv")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, good, bad
}
