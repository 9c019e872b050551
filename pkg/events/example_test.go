package events_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// An event becomes headers and a body, and an event again.
func Example() {
	at := time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)
	e, err := events.New("/web", events.TypePageClicked, "ann smith", at, events.PageClicked{User: "ann smith", Page: "/sale"})
	if err != nil {
		panic(err)
	}
	e.ID = "click-1"
	header, body, err := events.Encode(&e)
	if err != nil {
		panic(err)
	}
	fmt.Println(header["ce-type"][0], header["ce-subject"][0], header["ce-time"][0])
	fmt.Println(string(body))

	back, err := events.Decode(header, body)
	if err != nil {
		panic(err)
	}
	click, err := events.Payload[events.PageClicked](&back)
	if err != nil {
		panic(err)
	}
	fmt.Println(back.ID, click.User, click.Page)
	// Output:
	// shop.page.clicked.v1 ann%20smith 2010-12-01T08:26:00Z
	// {"user":"ann smith","page":"/sale"}
	// click-1 ann smith /sale
}

// Any text is one token of a subject, and the text again.
func ExampleToken() {
	for _, sku := range []string{"85123A", "BANK CHARGES", "a.b", ""} {
		token := events.Token(sku)
		back, _ := events.Untoken(token)
		fmt.Printf("%q is %s is %q\n", sku, token, back)
	}
	// Output:
	// "85123A" is 85123A is "85123A"
	// "BANK CHARGES" is BANK=20CHARGES is "BANK CHARGES"
	// "a.b" is a=2Eb is "a.b"
	// "" is = is ""
}

// One key is always in one partition, so its events stay in order.
func ExamplePartition() {
	for _, order := range []string{"536365", "536366", "536365"} {
		fmt.Println(order, events.Partition(events.Token(order), 8))
	}
	topology := events.DefaultTopology(8)
	fmt.Println(topology.Subjects().Order("536365"))
	// Output:
	// 536365 3
	// 536366 6
	// 536365 3
	// orders.3.536365
}

// Money is counted in whole pence. What does not fit is refused, never rounded.
func ExampleParseMinor() {
	price, err := events.ParseMinor("2.55")
	fmt.Println(int64(price), price, err)
	_, err = events.ParseMinor("2.555")
	fmt.Println(err)
	total, err := events.Total([]events.Line{{SKU: "85123A", Quantity: 6, UnitPrice: price}})
	fmt.Println(total, err)
	// Output:
	// 255 2.55 <nil>
	// invalid amount: "2.555": must have at most two decimals
	// 15.30 <nil>
}

// A payload is checked before it is published; the error names the field and the rule.
func ExampleRegistry_Validate() {
	registry, err := events.NewRegistry()
	if err != nil {
		panic(err)
	}
	e, err := events.New("/tidemark/inventory", events.TypeStockReceived, "85123A", time.Now(), events.StockReceived{SKU: "85123A", Quantity: 0, ReceiptID: "r-1"})
	if err != nil {
		panic(err)
	}
	err = registry.Validate(&e)
	fmt.Println(errors.Is(err, events.ErrSchema))
	fmt.Println(err)
	// Output:
	// true
	// payload breaks its schema: shop.stock.received.v1: /quantity: minimum: got 0, want 1
}

// The same parts give the same id, so an answer that is given twice is seen to be one.
func ExampleDeriveID() {
	fmt.Println(events.DeriveID("local", "536365"))
	fmt.Println(events.DeriveID("local", "536365"))
	fmt.Println(events.DeriveID("local5", "36365"))
	// Output:
	// qo7zsod3fak644eae5kfaisdxm
	// qo7zsod3fak644eae5kfaisdxm
	// uvcjgxnomfkeobun6tjzcnt6we
}
