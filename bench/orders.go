package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tidemark/tidemark/internal/natskeys"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/internal/system"
	"github.com/tidemark/tidemark/internal/telemetry"
	"github.com/tidemark/tidemark/pkg/events"
)

type ordersCmd struct {
	N       int           `default:"3000" help:"Orders a round."`
	Rounds  int           `default:"5" help:"Rounds of each; they take turns."`
	Open    int           `default:"256" help:"Orders that are open at once."`
	Users   bool          `help:"Let each service be a user of the broker with its own key and rights, as in tidemark up; without, the broker lets everybody do everything."`
	Stored  int           `default:"0" help:"Compare a system that has stored this many orders with an empty one instead, each in processes of its own; they take turns."`
	Settle  time.Duration `default:"130s" help:"How long to wait between storing and measuring. Nats-server remembers the ids of the last two minutes, whatever is stored."`
	Profile string        `help:"Write CPU profiles of one round of ours to FILE.ours and FILE.nats, instead of comparing; with --stored behind so many."`
}

// Run prints orders a second of both and their ratio.
func (c *ordersCmd) Run(b *bench) error {
	if c.Stored > 0 && c.Profile == "" {
		return c.stored(b)
	}
	program.SpendMemory() // as the services' programs do
	r, err := newRig(b.ctx, c.Users)
	if err != nil {
		return err
	}
	defer r.close()
	if c.Profile != "" {
		return c.profile(b, r)
	}
	b.say("| what | orders/s (median of %d, lowest to highest) | CPU an order: ours / nats-server | ratio to plain |", c.Rounds)
	b.say("|---|---|---|---|")
	return c.compare(b, r)
}

// profile runs ours alone and looks at where the time goes, in our process and in nats-server.
func (c *ordersCmd) profile(b *bench, r *rig) error {
	if _, err := r.driver.run(b.ctx, c.N/3+c.Stored, c.Open); err != nil { // warm-up
		return err
	}
	if c.Stored > 0 {
		if err := settle(b.ctx, c.Settle); err != nil {
			return err
		}
	}
	return profileBoth(b.ctx, r.nats, c.Profile, func() error {
		one, err := r.timed(b.ctx, c.N, func() (time.Duration, error) { return r.driver.run(b.ctx, c.N, c.Open) })
		b.say("%.0f orders/s, CPU %s an order: ours / nats-server", one.rate, perOrder([]round{one}, c.N))
		return err
	})
}

type round struct {
	rate float64
	cpu  cpu
}

// compare runs rounds of both in turn.
func (c *ordersCmd) compare(b *bench, r *rig) error {
	if _, err := r.driver.run(b.ctx, c.N/3, c.Open); err != nil { // warm-up: connections, caches, the garbage collector's pace
		return err
	}
	var ours, plain []round
	for i := range c.Rounds {
		one, err := r.timed(b.ctx, c.N, func() (time.Duration, error) { return r.driver.run(b.ctx, c.N, c.Open) })
		if err != nil {
			return err
		}
		ours = append(ours, one)
		one, err = r.timed(b.ctx, c.N, func() (time.Duration, error) {
			return r.plain.run(b.ctx, fmt.Sprintf("%d%d", i, time.Now().Unix()), c.N, c.Open)
		})
		if err != nil {
			return err
		}
		plain = append(plain, one)
	}
	b.say("| Tidemark | %s | %s | %.2f |", spread(ours), perOrder(ours, c.N), median(ours)/median(plain))
	b.say("| plain nats.go | %s | %s | 1 |", spread(plain), perOrder(plain, c.N))
	return nil
}

func rates(rs []round) []float64 {
	out := make([]float64, len(rs))
	for i, r := range rs {
		out[i] = r.rate
	}
	slices.Sort(out)
	return out
}

func median(rs []round) float64 { v := rates(rs); return v[len(v)/2] }

func spread(rs []round) string {
	v := rates(rs)
	return fmt.Sprintf("%.0f (%.0f to %.0f)", v[len(v)/2], v[0], v[len(v)-1])
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// cost is the CPU time of an order, in microseconds.
func cost(rs []round, n int) (self, other float64) {
	for _, r := range rs {
		self += micros(r.cpu.self)
		other += micros(r.cpu.other)
	}
	total := float64(n * len(rs))
	return self / total, other / total
}

func perOrder(rs []round, n int) string {
	self, other := cost(rs, n)
	return fmt.Sprintf("%.1f / %.1f µs", self, other)
}

// rig is the system over a nats-server of its own process, a driver that orders, and the plain counterpart on the same server.
type rig struct {
	nats   *natsProcess
	driver *driver
	plain  *plainOrders
	stop   func()
	remove func()
}

func newRig(ctx context.Context, users bool) (_ *rig, err error) {
	dir, remove, err := workDir()
	if err != nil {
		return nil, err
	}
	r := &rig{remove: remove, stop: func() {}}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	keys, flags := "", []string(nil)
	if users {
		keys = filepath.Join(dir, natskeys.Dir)
		if flags, err = withUsers(dir, keys); err != nil {
			return nil, err
		}
	}
	if r.nats, err = startNATS(ctx, dir, flags...); err != nil {
		return nil, err
	}
	api, stop, err := startSystem(ctx, r.nats.url, filepath.Join(dir, "data"), keys)
	if err != nil {
		return nil, err
	}
	r.stop = stop
	if r.driver, err = newDriver(ctx, api); err != nil {
		return nil, err
	}
	body, err := examplePayload()
	if err != nil {
		return nil, err
	}
	r.plain, err = newPlainOrders(ctx, r.nats.url, keys, body)
	return r, err
}

func (r *rig) close() {
	if r.plain != nil {
		r.plain.close()
	}
	r.stop()
	if r.nats != nil {
		r.nats.stop()
	}
	r.remove()
}

// timed runs a round. Its CPU time is that of all the work that it makes, also of what is left to do when the last order is confirmed: the next round would else have it.
func (r *rig) timed(ctx context.Context, n int, do func() (time.Duration, error)) (round, error) {
	before := cpuNow(r.nats.cmd.Process.Pid)
	took, err := do()
	if err == nil {
		err = r.plain.awaitQuiet(ctx)
	}
	if err != nil {
		return round{}, err
	}
	return round{rate: float64(n) / took.Seconds(), cpu: cpuNow(r.nats.cmd.Process.Pid).since(before)}, nil
}

// plainUser is who the plain counterpart is, where the broker asks: it may do everything.
const plainUser = "plain"

// withUsers writes the users' configuration, and returns the server's flags for it.
func withUsers(dir, keys string) (flags []string, err error) {
	topology := events.DefaultTopology(0)
	everything := []string{">"}
	var conf bytes.Buffer
	users := append(topology.Users(), events.User{Name: plainUser, Description: "the plain counterpart", Publish: everything, Subscribe: everything})
	if err := natskeys.Configuration(&conf, keys, users); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "users.conf")
	return []string{"-c", file}, os.WriteFile(file, conf.Bytes(), 0o600)
}

// startSystem runs the real services in this process over an outside nats-server, on any free ports.
func startSystem(ctx context.Context, natsURL, dir, keys string) (api http.Handler, stop func(), err error) {
	provider, err := telemetry.New(telemetry.Config{LogLevel: "error", Output: os.Stderr, Getenv: os.Getenv})
	if err != nil {
		return nil, nil, err
	}
	s, err := system.New(system.Config{
		HTTP: "127.0.0.1:0", GatewayAddr: "127.0.0.1:0", MailAddr: "127.0.0.1:0", Dir: dir, NATSURL: natsURL, Keys: keys, Out: io.Discard, Provider: provider,
		OrderDeadline: time.Hour, // else the deadlines of the orders of one measurement come due in the middle of the next
	})
	if err != nil {
		return nil, nil, err
	}
	work, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(work) }()
	select {
	case <-s.Ready():
	case err := <-done:
		cancel()
		return nil, nil, fmt.Errorf("start the system: %w", err)
	}
	return s.Handler(), func() { cancel(); <-done }, nil
}

// examplePayload is what a plain message carries: an order of two lines, as the driver sends it.
func examplePayload() ([]byte, error) {
	return json.Marshal(events.OrderPlaced{
		OrderID: events.NewID(), CustomerID: "c-0001", Currency: "GBP", PlacedAt: time.Now().UTC(), Total: 1010, RequestDigest: events.DeriveID("x"),
		Lines: []events.Line{{SKU: "bench-001", Quantity: 1, UnitPrice: 505}, {SKU: "bench-002", Quantity: 1, UnitPrice: 505}},
	})
}
