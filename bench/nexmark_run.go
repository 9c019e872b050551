package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tidemark/tidemark/bench/nexmark"
	"github.com/tidemark/tidemark/pkg/events"
)

// nexmarkRun is one run: a broker on an empty directory, analytics, a generator, and this process, which reads.
type nexmarkRun struct {
	b       *bench
	x       *expectation
	by      counter
	queries []string
	rate    float64 // 0: the whole log is stored before analytics starts

	during func() // runs beside it

	dir       string
	remove    func()
	broker    *natsProcess
	to        *client
	analytics *exec.Cmd
	results   *resultReader
	start     time.Time
}

// figures are what a run has measured.
type figures struct {
	Mode      string                `json:"mode"`
	Queries   string                `json:"queries"`
	Events    int                   `json:"events"`
	Rate      float64               `json:"rate"` // messages a second that were due
	Results   int                   `json:"results"`
	P50       float64               `json:"p50_ms"`
	P99       float64               `json:"p99_ms"`
	P999      float64               `json:"p999_ms"`
	Max       float64               `json:"max_ms"`
	SlipP99   float64               `json:"slip_p99_ms"`
	CPU       float64               `json:"cpu_us"` // of analytics, microseconds a message
	CPUBroker float64               `json:"cpu_broker_us"`
	CPUSender float64               `json:"cpu_sender_us"`
	Memory    float64               `json:"memory_mib"` // of analytics, at most
	Broker    float64               `json:"broker_mib"`
	Backlog   []int                 `json:"backlog"` // on its way, each quarter of a second
	PerSecond float64               `json:"per_second"`
	ByQuery   map[string][2]float64 `json:"by_query"` // p50 and p99 in milliseconds
	Few       [4]float64            `json:"few_ms"`   // p50, p99, p99.9 and highest of results that did not come out together with many
	Most      int                   `json:"most"`     // results that came out together
}

func (r *nexmarkRun) open() (err error) {
	if r.dir, r.remove, err = workDir(); err != nil {
		return err
	}
	if r.broker, err = startNATS(r.b.ctx, r.dir); err != nil {
		return err
	}
	if r.to, err = dial(r.broker.url); err != nil {
		return err
	}
	if err := r.to.prepare(r.b.ctx, nexmarkTopology(r.x.cfg.Partitions)); err != nil {
		return err
	}
	if r.by.plain {
		r.results, err = r.to.readPlain(r.b.ctx)
		return err
	}
	var subjects []string
	t := events.DefaultTopology(1)
	for _, q := range nexmark.Queries() {
		subjects = append(subjects, t.Subjects().WindowsOf(q.Name))
	}
	r.results, err = r.to.readResults(r.b.ctx, events.StreamWindows, subjects...)
	return err
}

func (r *nexmarkRun) close() {
	if r.analytics != nil {
		_ = r.analytics.Process.Signal(syscall.SIGTERM)
		_ = r.analytics.Wait() // it ends by a signal
	}
	if r.results != nil {
		r.results.stop()
	}
	if r.to != nil {
		r.to.close()
	}
	if r.broker != nil {
		r.broker.stop()
	}
	if r.remove != nil {
		r.remove()
	}
}

// serve starts analytics and waits until it is ready.
func (r *nexmarkRun) serve() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"nexmark", "serve", "--nats", r.broker.url, "--mode", r.by.mode.String(), "--queries", strings.Join(r.queries, ",")}
	if r.by.plain {
		args = []string{"nexmark", "plain", "--nats", r.broker.url, "--events", strconv.Itoa(r.x.cfg.Events), "--queries", strings.Join(r.queries, ",")}
	}
	cmd := exec.Command(self, args...) //nolint:noctx // stopped by close
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.analytics = cmd
	if line, err := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != "ready" {
		return fmt.Errorf("analytics ended before it was ready: %w", err)
	}
	return nil
}

// generate starts the generator. The first message is due when it has had time to prepare.
func (r *nexmarkRun) generate() (*exec.Cmd, *bytes.Buffer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	prepare := 2*time.Second + time.Duration(r.x.cfg.Events)*4*time.Microsecond
	r.start = time.Now().Add(prepare)
	cmd := exec.Command(self, "nexmark", "generate", "--nats", r.broker.url, "--events", strconv.Itoa(r.x.cfg.Events), //nolint:noctx // it ends by itself
		"--rate", strconv.FormatFloat(r.rate, 'f', -1, 64), "--start", strconv.FormatInt(r.start.UnixNano(), 10))
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	return cmd, out, cmd.Start()
}

func (r *nexmarkRun) due(place int) time.Time {
	if r.rate == 0 {
		return r.start
	}
	return r.start.Add(time.Duration(float64(place) / r.rate * float64(time.Second)))
}

// measure sends everything, waits for everything, and checks it.
func (r *nexmarkRun) measure() (*figures, error) {
	f := &figures{Mode: r.by.String(), Queries: strings.Join(r.queries, ","), Events: r.x.cfg.Events, Rate: r.rate}
	if r.rate > 0 {
		if err := r.serve(); err != nil {
			return nil, err
		}
	}
	cmd, out, err := r.generate()
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if r.during != nil {
		go r.during()
	}
	if r.rate == 0 {
		if err := <-done; err != nil {
			return nil, fmt.Errorf("generate: %w", err)
		}
		done <- nil
		r.start = time.Now()
		if err := r.serve(); err != nil {
			return nil, err
		}
	}
	before := [2]time.Duration{processCPU(r.analytics.Process.Pid), processCPU(r.broker.cmd.Process.Pid)}
	ended, err := r.watch(f, done)
	if err != nil {
		return nil, err
	}
	took := ended.Sub(r.start)
	messages := float64(len(r.x.log))
	f.PerSecond = messages / took.Seconds()
	f.CPU = float64((processCPU(r.analytics.Process.Pid) - before[0]).Microseconds()) / messages
	f.CPUBroker = float64((processCPU(r.broker.cmd.Process.Pid) - before[1]).Microseconds()) / messages
	f.CPUSender = float64((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Microseconds()) / messages
	var sent sentSummary
	if err := json.Unmarshal(out.Bytes(), &sent); err != nil {
		return nil, fmt.Errorf("the generator's summary: %w", err)
	}
	if f.SlipP99 = sent.SlipP99; sent.Failed > 0 {
		return nil, fmt.Errorf("%w: %d messages were not stored", errRunVoid, sent.Failed)
	}
	return f, r.finish(f)
}

// watch notes the backlog until all is sent and worked off, and nothing has come out for a while. It returns when the last came out.
func (r *nexmarkRun) watch(f *figures, done chan error) (ended time.Time, err error) {
	const step = 250 * time.Millisecond
	quiet := 2*time.Second + 2*r.by.mode.Every
	sent := false
	last, since := -1, time.Now()
	for {
		select {
		case err := <-done:
			if err != nil {
				return ended, fmt.Errorf("generate: %w", err)
			}
			sent = true
		case <-time.After(step):
		case <-r.b.ctx.Done():
			return ended, r.b.ctx.Err()
		}
		n, err := r.to.backlog(r.b.ctx, r.by)
		if err != nil {
			return ended, err
		}
		if !sent {
			f.Backlog = append(f.Backlog, n)
		}
		if count := r.results.count(); count != last || n > 2 || !sent { // heartbeats come and go
			last, since = count, time.Now()
		}
		if time.Since(since) > quiet {
			return since, nil
		}
	}
}

func (r *nexmarkRun) finish(f *figures) error {
	var err error
	if _, f.Memory, err = residentMiB(r.analytics.Process.Pid); err != nil {
		return err
	}
	if _, f.Broker, err = residentMiB(r.broker.cmd.Process.Pid); err != nil {
		return err
	}
	o, err := r.results.outcome()
	if err != nil {
		return err
	}
	stamps, err := r.x.stamps(r.b.ctx, r.to)
	if err != nil {
		return err
	}
	if !r.by.plain {
		if err := o.readLate(r.b.ctx, r.to); err != nil {
			return err
		}
		if err := r.x.check(r.b.ctx, r.to, o, stamps); err != nil {
			return err
		}
	}
	emission := r.x.emission(o, stamps, r.due)
	f.Results = r.results.count()
	quantiles := func(l latencies) [4]float64 {
		return [4]float64{l.quantile(50), l.quantile(99), l.quantile(99.9), l.quantile(100)}
	}
	total := quantiles(emission.by[all])
	f.P50, f.P99, f.P999, f.Max = total[0], total[1], total[2], total[3]
	f.Few, f.Most = quantiles(emission.by[few]), emission.most
	f.ByQuery = make(map[string][2]float64)
	for name, l := range emission.by {
		f.ByQuery[name] = [2]float64{l.quantile(50), l.quantile(99)}
	}
	return nil
}

// keepsUp says whether the backlog did not grow over the run, and results came out in time: within a second, and what a micro-batch waits for.
func (f *figures) keepsUp(every time.Duration) bool {
	half := f.Backlog[len(f.Backlog)/4:]
	if len(half) < 8 {
		return false
	}
	mean := func(all []int) float64 {
		sum := 0.
		for _, n := range all {
			sum += float64(n)
		}
		return sum / math.Max(float64(len(all)), 1)
	}
	grown := mean(half[len(half)/2:]) - mean(half[:len(half)/2])
	return grown < f.Rate/4 && f.P99 < float64((time.Second+every).Milliseconds())
}

// once runs and cleans up.
func (b *bench) nexmarkOnce(ctx context.Context, x *expectation, by counter, queries []string, rate float64) (*figures, error) {
	r := &nexmarkRun{b: &bench{ctx: ctx, out: b.out}, x: x, by: by, queries: queries, rate: rate}
	defer r.close()
	if err := r.open(); err != nil {
		return nil, err
	}
	defer withoutGarbageCollection()()
	return r.measure()
}
