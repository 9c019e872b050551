package load_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/tidemark/tidemark/internal/load"
)

// Two invoices, one with a negative quantity: it is sent like the other one, and it is the API that refuses it.
func ExampleRun() {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var order struct {
			Lines []struct{ Quantity int }
		}
		if err := json.NewDecoder(r.Body).Decode(&order); err == nil && order.Lines[0].Quantity < 1 {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		fmt.Fprintf(w, `{"id": "order-%s", "status": "confirmed"}`, r.Header.Get("Idempotency-Key"))
	}))
	defer api.Close()
	dir, err := os.MkdirTemp("", "load")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "invoices.csv")
	invoices := "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID\n" +
		"536365,85123A,6,2010-12-01 08:26:00,2.55,17850.0\n" +
		"C536379,D,-1,2010-12-01 09:41:00,27.50,14527.0\n"
	if err := os.WriteFile(file, []byte(invoices), 0o600); err != nil {
		panic(err)
	}

	sum, err := load.Run(context.Background(), load.Config{API: api.URL, CSV: file}, io.Discard, io.Discard)
	fmt.Println(sum.Invoices, "invoices:", sum.Placed, "placed,", sum.Refused, "refused,", sum.Confirmed, "confirmed,", sum.Open, "open", err)
	// Output: 2 invoices: 1 placed, 1 refused, 1 confirmed, 0 open <nil>
}
