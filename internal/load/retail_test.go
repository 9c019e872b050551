package load

import (
	"os"
	"path/filepath"
	"testing"
)

// retailFile is the real shop's file, which is not part of the project: where TIDEMARK_RETAIL_CSV says, else beside the repository.
func retailFile(t *testing.T) string {
	t.Helper()
	name := os.Getenv("TIDEMARK_RETAIL_CSV")
	if name == "" {
		name = filepath.Join("..", "..", "..", "shared", "data", "online-retail-2010-12_2011-03.csv.gz")
	}
	if _, err := os.Stat(name); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the real invoices are not there: %v", err)
		}
		t.Skipf("LEFT OUT: the real invoices are not there (%v); set TIDEMARK_RETAIL_CSV", err)
	}
	return name
}

// The counts are the file's own: see its description.
func TestRetailFile(t *testing.T) {
	t.Parallel()
	shop := newShop()
	got, _ := mustRun(t, Config{API: shop.start(t), CSV: retailFile(t), Stock: 500, Wait: true})
	want := Summary{
		Rows: 142_083, Invoices: 6_877, Placed: 5_406, Refused: 1_471, Confirmed: 5_406, Seconds: got.Seconds, OrdersPerSecond: got.OrdersPerSecond,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	lines := 0
	for _, o := range shop.sent {
		lines += len(o.Lines)
	}
	if lines != got.Rows {
		t.Errorf("%d lines were sent, want all %d", lines, got.Rows)
	}
	t.Logf("%.0f orders/s through a fake API", got.OrdersPerSecond)
}
