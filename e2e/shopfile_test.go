package e2e_test

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/e2e/batch"
)

// shopFile is the file of the real shop, where TIDEMARK_RETAIL_CSV says, else beside the repository. It is not part of the project: where it is not there, one is made up.
func shopFile(t *testing.T) string {
	t.Helper()
	name := os.Getenv("TIDEMARK_RETAIL_CSV")
	if name == "" {
		name = filepath.Join("..", "..", "shared", "data", "online-retail-2010-12_2011-03.csv.gz")
	}
	if _, err := os.Stat(name); err == nil {
		return name
	} else if os.Getenv("CI") == "true" {
		t.Fatalf("the real invoices are not there: %v", err)
	}
	t.Logf("LEFT OUT: the real invoices are not there, made-up ones take their place; set TIDEMARK_RETAIL_CSV")
	made, _, _ := invoices(t, 3000)
	return made
}

// readShop reads the first invoices of a file, 0: all, with the standard library alone, and returns the orders that the shop must accept, and how many it must
// refuse.
func readShop(t *testing.T, name string, limit int) (orders []batch.Fact, refused int) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var content io.Reader = bufio.NewReader(f)
	if strings.HasSuffix(name, ".gz") {
		if content, err = gzip.NewReader(content); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := csv.NewReader(content).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var numbers []string
	byNumber := make(map[string]*batch.Fact)
	good := make(map[string]bool)
	for _, row := range rows[1:] { // InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
		number := row[0]
		if byNumber[number] == nil {
			if limit > 0 && len(numbers) == limit {
				continue
			}
			at, err := time.ParseInLocation("2006-01-02 15:04:05", row[4], batch.London())
			if err != nil {
				t.Fatal(err)
			}
			who := strings.TrimSuffix(row[6], ".0")
			if who == "" {
				who = batch.Guest + number
			}
			byNumber[number] = &batch.Fact{At: at.UTC(), Who: who, Units: make(map[string]int64)}
			numbers, good[number] = append(numbers, number), true
		}
		units, errUnits := strconv.ParseInt(row[3], 10, 64)
		price, errPrice := strconv.ParseFloat(row[5], 64)
		if errUnits != nil || errPrice != nil {
			t.Fatal(errUnits, errPrice)
		}
		byNumber[number].Units[row[1]] += units
		byNumber[number].Total += units * int64(math.Round(100*price))
		good[number] = good[number] && units > 0 && price >= 0
	}
	for _, number := range numbers {
		if !good[number] {
			refused++
			continue
		}
		orders = append(orders, *byNumber[number])
	}
	return orders, refused
}

// The counts are the file's own: see its description.
func TestReadShop(t *testing.T) {
	t.Parallel()
	name := shopFile(t)
	orders, refused := readShop(t, name, 0)
	if strings.HasSuffix(name, ".gz") && (len(orders) != 5406 || refused != 1471) {
		t.Errorf("%d orders and %d refused, want 5,406 and 1,471", len(orders), refused)
	}
	first, _ := readShop(t, name, 10)
	if len(first) == 0 || fmt.Sprint(first[0]) != fmt.Sprint(orders[0]) {
		t.Errorf("the first of ten is %+v, the first of all %+v", first, orders[0])
	}
	answers := batch.Of(orders)
	total := int64(0)
	for _, o := range orders {
		total += o.Total
	}
	sums := map[string]int64{}
	for c, a := range answers {
		sums[c.Query] += a.Value
	}
	t.Logf("%d cells, %v", len(answers), sums)
	if n := int64(len(orders)); sums["orders-per-minute"] != n || sums["customer-sessions"] != n || sums["revenue-per-minute"] != total || sums["revenue-per-day"] != total {
		t.Errorf("sums %v, want %d orders of %d in all", sums, n, total)
	}
}
