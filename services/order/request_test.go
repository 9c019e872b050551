package order

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/pkg/events"
)

// faultsOf are the places that a body is refused for, in the order in which they are named.
func faultsOf(t *testing.T, body string, now time.Time) []string {
	t.Helper()
	r, f, err := decodeRequest([]byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	r.validate(now, &f)
	var out []string
	for _, e := range f.list {
		var d *huma.ErrorDetail
		if !errors.As(e, &d) {
			t.Fatalf("%v is no detail", e)
		}
		out = append(out, d.Location)
	}
	return out
}

func line(fields string) string { return `{"currency":"GBP","lines":[{` + fields + `}]}` }

func TestWhatARequestMayHold(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	good := `"sku":"A","quantity":1,"unit_price":"1"`
	manyLines := func(n int) string {
		return `{"currency":"GBP","lines":[` + strings.TrimSuffix(strings.Repeat(`{`+good+`},`, n), ",") + `]}`
	}
	tests := map[string]struct {
		body string
		bad  []string // nil: it is taken
	}{
		"least":                    {line(good), nil},
		"all fields":               {oneLine, nil},
		"price 0":                  {line(`"sku":"A","quantity":1,"unit_price":"0"`), nil},
		"price with one decimal":   {line(`"sku":"A","quantity":1,"unit_price":"2.5"`), nil},
		"price with three":         {line(`"sku":"A","quantity":1,"unit_price":"2.555"`), []string{"body.lines[0].unit_price"}},
		"price negative":           {line(`"sku":"A","quantity":1,"unit_price":"-11062.06"`), []string{"body.lines[0].unit_price"}},
		"price as a number":        {line(`"sku":"A","quantity":1,"unit_price":2.55`), []string{"body.lines[0].unit_price"}},
		"price in words":           {line(`"sku":"A","quantity":1,"unit_price":"1e2"`), []string{"body.lines[0].unit_price"}},
		"price too large":          {line(`"sku":"A","quantity":1,"unit_price":"99999999999999999999"`), []string{"body.lines[0].unit_price"}},
		"price is missing":         {line(`"sku":"A","quantity":1`), []string{"body.lines[0].unit_price"}},
		"quantity 1,000,000":       {line(`"sku":"A","quantity":1000000,"unit_price":"1"`), nil},
		"quantity 1,000,001":       {line(`"sku":"A","quantity":1000001,"unit_price":"1"`), []string{"body.lines[0].quantity"}},
		"quantity 0":               {line(`"sku":"A","quantity":0,"unit_price":"1"`), []string{"body.lines[0].quantity"}},
		"quantity negative":        {line(`"sku":"A","quantity":-6,"unit_price":"1"`), []string{"body.lines[0].quantity"}},
		"quantity with a fraction": {line(`"sku":"A","quantity":1.5,"unit_price":"1"`), []string{"body.lines[0].quantity"}},
		"quantity as a string":     {line(`"sku":"A","quantity":"1","unit_price":"1"`), []string{"body.lines[0].quantity"}},
		"quantity too long":        {line(`"sku":"A","quantity":1` + strings.Repeat("0", 400) + `,"unit_price":"1"`), []string{"body.lines[0].quantity"}},
		"quantity is missing":      {line(`"sku":"A","unit_price":"1"`), []string{"body.lines[0].quantity"}},
		"sku with spaces and dots": {line(`"sku":"BANK CHARGES. *>=é漢","quantity":1,"unit_price":"1"`), nil},
		"sku of 64 characters":     {line(`"sku":"` + strings.Repeat("漢", 64) + `","quantity":1,"unit_price":"1"`), nil},
		"sku of 65 characters":     {line(`"sku":"` + strings.Repeat("a", 65) + `","quantity":1,"unit_price":"1"`), []string{"body.lines[0].sku"}},
		"sku is empty":             {line(`"sku":"","quantity":1,"unit_price":"1"`), []string{"body.lines[0].sku"}},
		"sku with a control":       {line(`"sku":"a\u0007","quantity":1,"unit_price":"1"`), []string{"body.lines[0].sku"}},
		"sku with a line break":    {line(`"sku":"a\nb","quantity":1,"unit_price":"1"`), []string{"body.lines[0].sku"}},
		"sku is missing":           {line(`"quantity":1,"unit_price":"1"`), []string{"body.lines[0].sku"}},
		"sku is null":              {line(`"sku":null,"quantity":1,"unit_price":"1"`), []string{"body.lines[0].sku"}},
		"1,000 lines":              {manyLines(1000), nil},
		"1,001 lines":              {manyLines(1001), []string{"body.lines"}},
		"1,500 lines":              {manyLines(1500), []string{"body.lines"}},
		"no line":                  {`{"currency":"GBP","lines":[]}`, []string{"body.lines"}},
		"lines are missing":        {`{"currency":"GBP"}`, []string{"body.lines"}},
		"lines are an object":      {`{"currency":"GBP","lines":{"a":[1,{"b":2}]}}`, []string{"body.lines"}},
		"a line is a number":       {`{"currency":"GBP","lines":[7]}`, []string{"body.lines[0]", "body.lines[0].sku", "body.lines[0].quantity", "body.lines[0].unit_price"}},
		"currency is missing":      {`{"lines":[{` + good + `}]}`, []string{"body.currency"}},
		"currency in lower case":   {`{"currency":"gbp","lines":[{` + good + `}]}`, []string{"body.currency"}},
		"currency of no country":   {`{"currency":"QQQ","lines":[{` + good + `}]}`, []string{"body.currency"}},
		"currency is a number":     {`{"currency":826,"lines":[{` + good + `}]}`, []string{"body.currency"}},
		"customer empty: a guest":  {`{"customer":"","email":null,"currency":"GBP","lines":[{` + good + `}]}`, nil},
		"customer of 129":          {`{"customer":"` + strings.Repeat("c", 129) + `","currency":"GBP","lines":[{` + good + `}]}`, []string{"body.customer"}},
		"customer with a control":  {`{"customer":"a\u0000","currency":"GBP","lines":[{` + good + `}]}`, []string{"body.customer"}},
		"email with a name":        {`{"email":"Ann <ann@example.org>","currency":"GBP","lines":[{` + good + `}]}`, []string{"body.email"}},
		"email with a line break":  {`{"email":"a@b.c\r\nBcc: x@y.z","currency":"GBP","lines":[{` + good + `}]}`, []string{"body.email"}},
		"email too long":           {`{"email":"` + strings.Repeat("e", 250) + `@b.cd","currency":"GBP","lines":[{` + good + `}]}`, []string{"body.email"}},
		"placed in 2010":           {`{"placed_at":"2010-12-01T08:26:00Z","currency":"GBP","lines":[{` + good + `}]}`, nil},
		"placed 5 minutes ahead":   {`{"placed_at":"2026-01-31T13:05:00+01:00","currency":"GBP","lines":[{` + good + `}]}`, nil},
		"placed further ahead":     {`{"placed_at":"2026-01-31T12:05:01Z","currency":"GBP","lines":[{` + good + `}]}`, []string{"body.placed_at"}},
		"placed before year 1":     {`{"placed_at":"0000-01-01T00:00:00+01:00","currency":"GBP","lines":[{` + good + `}]}`, []string{"body.placed_at"}},
		"placed yesterday":         {`{"placed_at":"yesterday","currency":"GBP","lines":[{` + good + `}]}`, []string{"body.placed_at"}},
		"a misspelt field":         {`{"curency":"GBP","currency":"GBP","lines":[{` + good + `,"qty":{"deep":[1]}}]}`, []string{"body.curency", "body.lines[0].qty"}},
		"a field comes twice":      {line(`"sku":"A","sku":"B","quantity":1,"unit_price":"1"`), []string{"body.lines[0].sku"}},
		"the total overflows":      {line(`"sku":"A","quantity":1000000,"unit_price":"92233720368547758.07"`), []string{"body.lines"}},
		"not an object":            {`["GBP"]`, []string{"body", "body.currency", "body.lines"}},
		"everything is wrong": {
			`{"customer":1,"email":"no","currency":"pound","placed_at":"now","lines":[{"sku":"","quantity":-1,"unit_price":"x"},{` + good + `},{"quantity":0}]}`,
			[]string{
				"body.customer", "body.email", "body.currency", "body.placed_at", "body.lines[0].sku", "body.lines[0].quantity", "body.lines[0].unit_price",
				"body.lines[2].sku", "body.lines[2].quantity", "body.lines[2].unit_price",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := faultsOf(t, test.body, now); !slices.Equal(got, test.bad) {
				t.Errorf("refused for %v, want %v", got, test.bad)
			}
		})
	}
}

func TestWhatARequestMeans(t *testing.T) {
	t.Parallel()
	body := `{"customer":"ann","email":"ann@example.org","currency":"GBP","placed_at":"2010-12-01T08:26:00.123456789+01:00",
		"lines":[{"sku":"A","quantity":6,"unit_price":"2.55"},{"sku":"B","quantity":2,"unit_price":"1.5"}]}`
	r, f, err := decodeRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	v := r.validate(time.Now(), &f)
	if len(f.list) > 0 {
		t.Fatal(f.list)
	}
	want := validOrder{
		customer: "ann", email: "ann@example.org", currency: "GBP", placedAt: time.Date(2010, 12, 1, 7, 26, 0, 123456000, time.UTC), total: 1830,
		lines: []events.Line{{SKU: "A", Quantity: 6, UnitPrice: 255}, {SKU: "B", Quantity: 2, UnitPrice: 150}},
	}
	if fmt.Sprint(v) != fmt.Sprint(want) {
		t.Fatalf("it means\n%+v, want\n%+v", v, want)
	}
}

func TestDigestComparesAsSent(t *testing.T) {
	t.Parallel()
	digest := func(body string) string {
		r, _, err := decodeRequest([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		d, err := r.digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := digest(`{"currency":"GBP","lines":[{"sku":"A","quantity":1,"unit_price":"1.5"}]}`)
	for body, same := range map[string]bool{
		` { "lines" : [{"quantity":1,"unit_price":"1.5","sku":"A"}], "currency":"GBP" } `:                                      true,
		`{"customer":null,"currency":"GBP","lines":[{"sku":"\u0041","quantity":1,"unit_price":"1.5"}]}`:                        true,
		`{"currency":"GBP","lines":[{"sku":"A","quantity":1,"unit_price":"1.50"}]}`:                                            false,
		`{"currency":"GBP","lines":[{"sku":"A","quantity":2,"unit_price":"1.5"}]}`:                                             false,
		`{"customer":"","currency":"GBP","lines":[{"sku":"A","quantity":1,"unit_price":"1.5"}]}`:                               false,
		`{"currency":"GBP","lines":[{"sku":"A","quantity":1,"unit_price":"1.5"},{"sku":"A","quantity":1,"unit_price":"1.5"}]}`: false,
	} {
		if got := digest(body) == base; got != same {
			t.Errorf("%s: same is %t, want %t", body, got, same)
		}
	}
}

func TestTheAnswerToABadRequest(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	bad := i.do(http.MethodPost, "/v1/orders", line(`"sku":"A","quantity":-1,"unit_price":"-1"`), "Idempotency-Key", "é")
	if bad.code != http.StatusUnprocessableEntity || bad.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%d %v %s", bad.code, bad.header, bad.raw)
	}
	if got := bad.locations(t); !slices.Equal(got, []string{"header.Idempotency-Key", "body.lines[0].quantity", "body.lines[0].unit_price"}) {
		t.Fatalf("names %v", got)
	}
	tests := map[string]struct {
		body    string
		headers []string
		want    int
	}{
		"no JSON":          {body: `{"currency":`, want: http.StatusBadRequest},
		"no body":          {body: ``, want: http.StatusBadRequest},
		"it goes on":       {body: oneLine + `{}`, want: http.StatusBadRequest},
		"not UTF-8":        {body: "{\"currency\":\"\xff\"}", want: http.StatusBadRequest},
		"1 MiB":            {body: oneLine + strings.Repeat(" ", 1<<20-len(oneLine)), want: http.StatusAccepted},
		"more than 1 MiB":  {body: oneLine + strings.Repeat(" ", 1<<20-len(oneLine)+1), want: http.StatusRequestEntityTooLarge},
		"an empty key":     {body: oneLine, headers: []string{"Idempotency-Key", ""}, want: http.StatusUnprocessableEntity},
		"two keys":         {body: oneLine, headers: []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, want: http.StatusUnprocessableEntity},
		"a key of 255":     {body: oneLine, headers: []string{"Idempotency-Key", strings.Repeat("k", 255)}, want: http.StatusAccepted},
		"a key of 256":     {body: oneLine, headers: []string{"Idempotency-Key", strings.Repeat("k", 256)}, want: http.StatusUnprocessableEntity},
		"a key with space": {body: oneLine, headers: []string{"Idempotency-Key", "C536379 of 2010"}, want: http.StatusAccepted},
	}
	before := i.lastOf(events.StreamOrders)
	placed := uint64(0)
	for name, test := range tests {
		r := i.do(http.MethodPost, "/v1/orders", test.body, test.headers...)
		if r.code != test.want {
			t.Errorf("%s: %d %.300s, want %d", name, r.code, r.raw, test.want)
		}
		if r.code == http.StatusAccepted {
			placed++
		}
	}
	if n := i.lastOf(events.StreamOrders); n != before+placed {
		t.Errorf("ORDERS holds %d events, want %d: a refused request stored something", n, before+placed)
	}
	for path, want := range map[string]int{
		"/v1/orders/unknown": 404, "/v1/orders/unknown/events": 404, "/v1/orders?status=lost": 422, "/v1/orders?limit=0": 422, "/v1/orders?limit=1001": 422, "/v1/orders?cursor=x": 422,
	} {
		if r := i.do(http.MethodGet, path, ""); r.code != want || r.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, want %d", path, r.code, r.raw, want)
		}
	}
}

func TestTheDocumentShowsTheBody(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			RequestBody struct {
				Content map[string]struct {
					Schema map[string]any `json:"schema"`
				} `json:"content"`
			} `json:"requestBody"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(i.do(http.MethodGet, "/openapi.json", "").raw, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Paths["/v1/orders"]["post"].RequestBody.Content["application/json"].Schema["$ref"] != "#/components/schemas/OrderRequest" {
		t.Fatalf("%+v", doc.Paths["/v1/orders"]["post"])
	}
}

// FuzzRequest: no body makes the decoder panic or go on for ever, what it takes is within the limits, and what it takes is read back the same from its
// own canonical form.
//
// It faces outside.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		oneLine, line(`"sku":"A","quantity":1e3,"unit_price":"1"`), `{`, `[]`, `{"lines":[[]]}`, `{"lines":[{}]}`, `{"lines":[{"sku":1},null,"x",{"sku":{"a":[]}}]}`,
		`{"currency":"GBP","lines":[{"sku":"\ud800","quantity":1,"unit_price":"0"}]}`, `null`, `{"placed_at":"0000-01-01T00:00:00+23:59"}`, "{\"customer\":\"\xff\"}", `{}{}`,
	} {
		f.Add([]byte(seed))
	}
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, bad, err := decodeRequest(body)
		if err != nil {
			if !errors.Is(err, errSyntax) {
				t.Fatalf("%v is no syntax error", err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatal("taken, but it is not JSON")
		}
		if len(bad.list) == 0 { // each name once, and spelt as it must be: then the library reads the same
			var library request
			if err := json.Unmarshal(body, &library); err != nil || jsonOf(t, library) != jsonOf(t, r) {
				t.Fatalf("library %s, %v; ours %s", jsonOf(t, library), err, jsonOf(t, r))
			}
		}
		v := r.validate(now, &bad)
		if len(bad.list) > 0 {
			return
		}
		sum := float64(0)
		for _, l := range v.lines {
			if l.Quantity < 1 || l.Quantity > maxQuantity || l.UnitPrice < 0 || l.SKU == "" {
				t.Fatalf("taken: %+v", l)
			}
			sum += float64(l.Quantity) * float64(l.UnitPrice)
		}
		if len(v.lines) == 0 || len(v.lines) > maxLines || v.total < 0 || math.Abs(float64(v.total)-sum) > sum/1e9+1 {
			t.Fatalf("taken: %+v", v)
		}
		if _, err := json.Marshal(v.placedAt); err != nil {
			t.Fatalf("taken: %v", err)
		}
		canonical, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, more, err := decodeRequest(canonical)
		if err != nil || len(more.list) > 0 {
			t.Fatalf("%s: %v, %v", canonical, err, more.list)
		}
		twice, err := json.Marshal(again)
		if err != nil || !bytes.Equal(canonical, twice) {
			t.Fatalf("%s, then %s: %v", canonical, twice, err)
		}
	})
}

func jsonOf(t *testing.T, r request) string {
	t.Helper()
	if len(r.Lines) == 0 {
		r.Lines = nil
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
