package inventory_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/services/inventory"
)

// A warehouse takes units in once for each idempotency key.
func Example() {
	eventstest.Run(func(server *eventstest.Server) {
		registry, err := events.NewRegistry()
		if err != nil {
			panic(err)
		}
		service, err := inventory.New(inventory.Config{}, inventory.Deps{NATS: server.Connect(), Topology: server.Apply(events.DefaultTopology(1)), Registry: registry})
		if err != nil {
			panic(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- service.Run(ctx) }()
		<-service.Ready()

		mux := http.NewServeMux()
		service.Routes(humago.New(mux, huma.DefaultConfig("Inventory", "1.0.0")))
		for range 2 {
			request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/stock/85123A/receipts", strings.NewReader(`{"quantity":500}`))
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Idempotency-Key", "delivery note 7")
			answer := httptest.NewRecorder()
			mux.ServeHTTP(answer, request)
			_, after, _ := strings.Cut(answer.Body.String(), `"sku"`)
			stock, _, _ := strings.Cut(after, `,"receipt_id"`)
			fmt.Println(answer.Code, `"sku"`+stock)
		}
		stop()
		fmt.Println(<-ended)
	})
	// Output:
	// 201 "sku":"85123A","on_hand":500,"reserved":0,"available":500
	// 200 "sku":"85123A","on_hand":500,"reserved":0,"available":500
	// <nil>
}
