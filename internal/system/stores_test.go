package system_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/check"
	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/natsd"
	"github.com/tidemark/tidemark/internal/system"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// testdata/stores holds a small data directory of each released version, made by that version's own code: four orders that have ended, clicks, snapshots, and an order that was
// placed while inventory was away. 0.1.0 is the first; it was made on 2026-11-26, while 0.1.0 was being written. A release adds its own, and never changes another:
//
//	go test ./internal/system -run TestMakeStore -make-store 0.2.0
var makeStore = flag.String("make-store", "", "version: write testdata/stores/VERSION.tar.gz, part of a release")

const storesDir = "testdata/stores"

// remembered stands in a store beside the data: what whoever opens it must find.
type remembered struct {
	Orders map[string]string `json:"orders"` // status by id
	Open   string            `json:"open"`   // an order that waits for the warehouse: the program was stopped before it answered
	SKU    string            `json:"sku"`
	OnHand int64             `json:"on_hand"`
}

const rememberedFile = "remembered.json"

// Every data directory that was ever released opens under this program: nothing is lost, what was begun is finished, and the books agree.
func TestOldStoresOpen(t *testing.T) {
	t.Parallel()
	stores, err := filepath.Glob(filepath.Join(storesDir, "*.tar.gz"))
	if err != nil || len(stores) == 0 {
		t.Fatalf("no stores: %v", err)
	}
	for _, path := range stores {
		for name, age := range map[string]func(*testing.T, string){" soon": func(*testing.T, string) {}, " after a year": expire} {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".tar.gz")+name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				unpack(t, path, dir)
				age(t, dir)
				opens(t, dir)
			})
		}
	}
}

// expire makes the broker forget what it would forget in a year: everything that the store held in streams with an age limit. So it does not matter how old a store is. What
// the broker itself writes from its start on is new, and is kept: TIMELINE is still to get its copy of the open order.
func expire(t *testing.T, dir string) {
	t.Helper()
	opened := time.Now()
	broker, err := natsd.Start(t.Context(), natsd.Config{Dir: dir, Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := broker.Stop(); err != nil {
			t.Error(err)
		}
	}()
	nc, err := broker.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	streams := js.ListStreams(t.Context())
	for info := range streams.Info() {
		if info.Config.MaxAge == 0 {
			continue
		}
		stream, err := js.Stream(t.Context(), info.Config.Name)
		if err == nil {
			err = purgeBefore(t.Context(), stream, opened)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
}

// purgeBefore removes what was stored before a time.
func purgeBefore(ctx context.Context, stream jetstream.Stream, before time.Time) error {
	state := stream.CachedInfo().State
	keep := state.LastSeq + 1
	for ; keep > max(state.FirstSeq, 1); keep-- {
		m, err := stream.GetMsg(ctx, keep-1)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if m.Time.Before(before) {
			break
		}
	}
	return stream.Purge(ctx, jetstream.WithPurgeSequence(keep))
}

func opens(t *testing.T, dir string) {
	t.Helper()
	var was remembered
	raw, err := os.ReadFile(filepath.Join(dir, rememberedFile))
	if err := errors.Join(err, json.Unmarshal(raw, &was)); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	for id, status := range was.Orders {
		if o, err := s.Order(t.Context(), id); err != nil || o.Status != status {
			t.Errorf("order %s is %q, was %q (%v)", id, o.Status, status, err)
		}
	}
	awaitEnded(t, s, was.Open)
	if stock, err := s.Stock(t.Context(), was.SKU); err != nil || stock.OnHand > was.OnHand || stock.OnHand < was.OnHand-1 {
		t.Errorf("stock %+v, want %d on hand, or one less for the order that was open (%v)", stock, was.OnHand, err)
	}
	fresh := place(t, s, "after the upgrade", was.SKU)
	if o := awaitEnded(t, s, fresh); o.Status != client.StatusConfirmed {
		t.Errorf("a new order is %s (%s)", o.Status, o.Reason)
	}
	mustHold(t, s)
	s.stop()
	if out := s.out.String(); strings.Contains(out, "base can't be read") { // the log would make it good only as long as it holds everything
		t.Errorf("analytics could not read its state:\n%s", out)
	}
	start(t, dir) // and again
}

func mustHold(t *testing.T, s *running) {
	t.Helper()
	results, err := check.Run(t.Context(), check.Config{API: s.URL(), Wait: patience})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if !r.OK() {
			t.Errorf("invariant %d (%s): %d broken: %s %s", r.Invariant, r.Name, r.Broken, r.First, r.Unchecked)
		}
	}
}

func place(t *testing.T, s *running, key, sku string) string {
	t.Helper()
	placed, err := s.PlaceOrder(t.Context(), key, client.NewOrder{
		Customer: "ann", Email: "ann@example.com", Currency: "GBP", Lines: []client.Line{{SKU: sku, Quantity: 1, UnitPrice: "2.55"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return placed.ID
}

func awaitEnded(t *testing.T, s *running, id string) client.Order {
	t.Helper()
	var o client.Order
	eventstest.Eventually(t, patience, "order "+id+" has ended", func() bool {
		var err error
		o, err = s.Order(t.Context(), id)
		return err == nil && o.Ended()
	})
	return o
}

// TestMakeStore writes the store of a release; it does nothing otherwise.
func TestMakeStore(t *testing.T) {
	if *makeStore == "" {
		return
	}
	path := filepath.Join(storesDir, *makeStore+".tar.gz")
	if _, err := os.Stat(path); err == nil {
		t.Fatalf("%s is there: a store of a release is never made anew", path)
	}
	dir := t.TempDir()
	version := func(c *system.Config) { c.Version = *makeStore }
	was := remembered{Orders: make(map[string]string), SKU: "85123A"}
	s := start(t, dir, version)
	if _, err := s.Receive(t.Context(), was.SKU, "delivery", 20); err != nil {
		t.Fatal(err)
	}
	for key, sku := range map[string]string{"one": was.SKU, "two": was.SKU, "three": was.SKU, "short": "NOTHING LEFT"} {
		id := place(t, s, key, sku)
		was.Orders[id] = awaitEnded(t, s, id).Status
	}
	clicks := make([]events.Event, 0, 5)
	for range cap(clicks) {
		e, err := events.New("/store", events.TypePageClicked, "ann", time.Now(), events.PageClicked{User: "ann", Page: "/", Platform: "web"})
		if err != nil {
			t.Fatal(err)
		}
		clicks = append(clicks, e)
	}
	if _, err := s.PostClicks(t.Context(), clicks); err != nil {
		t.Fatal(err)
	}
	mustHold(t, s)
	stock, err := s.Stock(t.Context(), was.SKU)
	if err != nil {
		t.Fatal(err)
	}
	was.OnHand = stock.OnHand
	s.stop()

	s = start(t, dir, version, func(c *system.Config) { c.Without = []string{events.ServiceInventory} })
	was.Open = place(t, s, "open", was.SKU)
	s.stop()

	raw, err := json.MarshalIndent(was, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, rememberedFile), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	packed := pack(t, dir)
	const most = 200 << 10
	if len(packed) > most {
		t.Errorf("%s has %d bytes, at most %d are wanted", path, len(packed), most)
	}
	if err := errors.Join(os.MkdirAll(storesDir, 0o755), os.WriteFile(path, packed, 0o644)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes", path, len(packed))
}

func pack(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o600, Size: int64(len(raw))}); err != nil {
			return err
		}
		_, err = w.Write(raw)
		return err
	})
	if err := errors.Join(err, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(t *testing.T, path, dir string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil || !filepath.IsLocal(h.Name) {
			t.Fatalf("%s: %v", h.Name, err)
		}
		raw, err := io.ReadAll(r)
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, raw, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
