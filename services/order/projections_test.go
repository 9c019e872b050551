package order

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func (i *instance) versions() []ProjectionBody {
	i.t.Helper()
	return decode[struct{ Items []ProjectionBody }](i.t, i.do(http.MethodGet, "/v1/projections", "")).Items
}

const jsonType = "application/json"

func (i *instance) post(path, body string) reply {
	i.t.Helper()
	return i.do(http.MethodPost, path, body, "Content-Type", jsonType)
}

// rebuild builds a version and waits until it follows the logs.
func (i *instance) rebuild() uint64 {
	i.t.Helper()
	r := i.post("/v1/projections/orders/rebuild", "{}")
	if r.code != http.StatusAccepted {
		i.t.Fatalf("rebuild: %d %s", r.code, r.raw)
	}
	var version uint64
	eventstest.Eventually(i.t, patience, "the version is ready", func() bool {
		for _, v := range i.versions() {
			if v.Role == "next" && v.State == "ready" {
				version = v.Version
			}
		}
		return version > 0
	})
	return version
}

// The listing is rebuilt and swapped while orders are placed: each is listed once, nobody who waits for an outcome misses it, and the answers go on.
func TestTheListingIsSwappedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.start(Config{SnapshotEvery: 5})
	ctx, stop := context.WithCancel(context.Background())
	var load sync.WaitGroup
	placed := 0
	load.Go(func() {
		for ; ctx.Err() == nil; placed++ {
			var ended sync.WaitGroup
			key := fmt.Sprint("k", placed)
			ended.Go(func() {
				began := time.Now()
				r := i.do(http.MethodPost, "/v1/orders", oneLine, "Idempotency-Key", key, "Prefer", "wait=30")
				if o := r.order(t); o.Status != "confirmed" || time.Since(began) > patience {
					t.Errorf("order %s was %s after %s", o.ID, o.Status, time.Since(began))
				}
			})
			id := orderID(access.Local, key)
			eventstest.Eventually(t, patience, "the order is placed", func() bool { // also the last one, which nobody would answer otherwise
				r, err := w.orders.Last(t.Context(), w.topology.Subjects().Order(id))
				return err == nil && r.Sequence > 0
			})
			w.answerOnce(id)
			ended.Wait()
		}
	})
	load.Go(func() {
		for ctx.Err() == nil {
			if r := i.do(http.MethodGet, "/v1/orders?limit=1", ""); r.code != http.StatusOK {
				t.Errorf("the listing: %d %s", r.code, r.raw)
				return
			}
		}
	})
	for round := range 3 {
		want := uint64(round + 2) //nolint:gosec // small
		if version := i.rebuild(); version != want {
			t.Errorf("version %d is built, want %d", version, want)
		}
		c := decode[ComparisonBody](t, i.post("/v1/projections/orders/swap", `{"dry_run":true}`))
		if !c.Equal || c.Swapped || c.Version != want {
			t.Errorf("dry run: %+v", c)
		}
		if c = decode[ComparisonBody](t, i.post("/v1/projections/orders/swap", "{}")); !c.Equal || !c.Swapped {
			t.Errorf("swap: %+v", c)
		}
	}
	stop()
	load.Wait()
	live := i.settled()
	if live.count != placed {
		t.Errorf("%d orders are listed, %d were placed", live.count, placed)
	}
	roles := ""
	for _, v := range i.versions() {
		roles += fmt.Sprint(v.Version, v.Role, " ")
	}
	if roles != "4live 3previous " {
		t.Errorf("versions are %s", roles)
	}
	i.halt()
	again := w.start(Config{SnapshotEvery: 5})
	if v := again.versions()[0]; v.Version != 4 || v.Role != "live" || again.settled() != live {
		t.Errorf("after a restart: %+v, %+v, before %+v", v, again.settled(), live)
	}
}

// answerOnce reserves an order, if it was placed.
func (w *world) answerOnce(id string) {
	if placed, err := w.orders.Load(context.Background(), w.topology.Subjects().Order(id)); err == nil && len(placed) > 0 {
		w.answer(id, events.TypeStockReserved)
	}
}

func TestProjectionsOverHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.start(Config{SnapshotEvery: 1})
	i.placeOne("k", oneLine)
	js := w.nats.JetStream()
	if _, err := js.Publish(t.Context(), w.topology.Subjects().Order("rubbish"), []byte("no event")); err != nil {
		t.Fatal(err)
	}
	strange, err := events.New(source, "shop.order.painted.v1", "painted", time.Now(), map[string]string{"order_id": "painted"})
	if err != nil {
		t.Fatal(err)
	}
	w.publishRaw(w.topology.Subjects().Order("painted"), strange)
	i.settled()
	v := i.versions()[0]
	if v.Name != "orders" || v.Role != "live" || v.State != "ready" || v.Lag != 0 || v.Rows != 1 || v.Position[events.StreamOrders] != 3 || v.Skipped["shop.order.painted.v1"] != 1 ||
		len(v.Parked) != 1 || v.Parked[0].Sequence != 2 || v.Begun.IsZero() || v.Fold != listingFold || v.Program != listingFold {
		t.Fatalf("%+v", v)
	}
	for path, want := range map[string]struct {
		code int
		says string
	}{
		"nothing/rebuild":                 {404, "no projection"},
		"orders/swap":                     {404, "rebuild first"},
		"orders/compare":                  {404, "rebuild first"},
		"orders/swap {\"version\":7}":     {404, "no such version"},
		"orders/swap {\"back\":true}":     {404, "none is kept"},
		"orders/compare {\"version\":1}":  {404, "is the live one"},
		"orders/swap {\"version\":\"x\"}": {422, "version"},
		"orders/rebuild {\"parks\":true}": {422, "parks"},
	} {
		target, body, _ := strings.Cut(path, " ")
		if body == "" {
			body = "{}"
		}
		if r := i.post("/v1/projections/"+target, body); r.code != want.code || !strings.Contains(string(r.raw), want.says) {
			t.Errorf("%s: %d %s, want %d and %q", path, r.code, r.raw, want.code, want.says)
		}
	}
	// A strict rebuild gives up at the rubbish and says where; one that parks comes through.
	if r := i.post("/v1/projections/orders/rebuild", "{}"); r.code != http.StatusAccepted {
		t.Fatalf("%d %s", r.code, r.raw)
	}
	eventstest.Eventually(t, patience, "the strict rebuild has failed", func() bool {
		all := i.versions()
		last := all[len(all)-1]
		return last.State == "failed" && strings.Contains(last.Error, "ORDERS, sequence 2")
	})
	if r := i.post("/v1/projections/orders/swap", "{}"); r.code != http.StatusConflict {
		t.Errorf("swap to what failed: %d %s", r.code, r.raw)
	}
	if r := i.post("/v1/projections/orders/rebuild", `{"park":true}`); r.code != http.StatusAccepted {
		t.Fatalf("%d %s", r.code, r.raw)
	}
	if c := decode[ComparisonBody](t, i.post("/v1/projections/orders/compare", "{}")); !c.Equal || c.Rows != 1 || c.Parked != 1 || c.Version != 3 {
		t.Errorf("%+v", c)
	}
	if r := i.do(http.MethodDelete, "/v1/projections/orders/versions/3", ""); r.code != http.StatusNoContent {
		t.Errorf("drop: %d %s", r.code, r.raw)
	}
	if r := i.do(http.MethodDelete, "/v1/projections/orders/versions/1", ""); r.code != http.StatusNotFound {
		t.Errorf("drop of the live one: %d %s", r.code, r.raw)
	}
}

// What changes a read model is for operators: who reads orders may look.
func TestOperatorsChangeProjections(t *testing.T) {
	t.Parallel()
	api := humago.New(http.NewServeMux(), huma.DefaultConfig("test", "1"))
	new(Service).Routes(api)
	changes := 0
	for path, item := range api.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Delete} {
			if op == nil || !strings.HasPrefix(path, "/v1/projections") {
				continue
			}
			reader := access.Caller{Scopes: []string{access.OrdersRead, access.OrdersWrite}}.May(op.Security)
			operator := access.Caller{Scopes: []string{access.Operator}}.May(op.Security)
			if !operator || reader != (op.Method == http.MethodGet) {
				t.Errorf("%s %s: a reader may: %t, an operator may: %t", op.Method, path, reader, operator)
			}
			if op.Method != http.MethodGet {
				changes++
			}
		}
	}
	if changes != 4 {
		t.Errorf("%d operations change a projection", changes)
	}
}
