package window_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

var casesFile = flag.String("cases", "testdata/cases.jsonl", "the cases that TestCases runs")

// row is one case. A field or kind that is not known fails.
type row struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
	Src  string `json:"src"`
	Rel  string `json:"rel"`
	Note string `json:"note"`

	Win struct {
		Type   string `json:"type"`
		Size   int64  `json:"size"`
		Slide  int64  `json:"slide"`
		Offset int64  `json:"offset"`
		Gap    int64  `json:"gap"`
		Unit   string `json:"unit"`
		Zone   string `json:"tz"`
	} `json:"win"`

	// kind assign
	T       []int64      `json:"t"`
	Windows [][][2]int64 `json:"windows"`

	// kind run
	Lateness    int64            `json:"lateness"`
	Bound       json.RawMessage  `json:"bound"` // a number or one for each partition; absent: manual watermark
	Partitions  int              `json:"partitions"`
	Idle        int64            `json:"idle"`
	IdleAdvance bool             `json:"idle_advance"`
	MaxFuture   int64            `json:"max_future"`
	Steps       []string         `json:"steps"`
	Panes       []string         `json:"panes"`
	Late        []string         `json:"late"`
	Dup         []string         `json:"dup"`
	Backfill    []string         `json:"backfill"`
	Final       map[string]int64 `json:"final"`
}

// TestCases runs a file of cases: every row as it is in event-by-event mode, and in micro-batches of several sizes.
//
//	go test ./pkg/window -run TestCases -cases FILE
func TestCases(t *testing.T) {
	t.Parallel()
	runFile(t, *casesFile)
}

// TestOwnCases runs further cases in the same format.
func TestOwnCases(t *testing.T) {
	t.Parallel()
	runFile(t, "testdata/own.jsonl")
}

func runFile(t *testing.T, name string) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	rows := 0
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		rows++
		var c row
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&c); err != nil {
			t.Errorf("%s, line %d: %v", name, n, err)
			continue
		}
		if decoder.More() {
			t.Errorf("%s, line %d: more than one case", name, n)
		}
		if test := c.ofTheService(); test != "" {
			t.Logf("%s is not run here: it is about commits, which this package does not make. It is shown with processes that are killed by `go test ./services/analytics -run %s`: %s", c.ID, test, c.Note)
			continue
		}
		t.Run(c.ID, c.run)
	}
	if err := lines.Err(); err != nil || rows == 0 {
		t.Fatalf("%s: %d rows, %v", name, rows, err)
	}
}

func (c row) run(t *testing.T) {
	if c.Kind != "scenario" { // a property says so itself
		t.Parallel()
	}
	switch c.Kind {
	case "assign":
		c.assign(t)
	case "run":
		t.Run("per-event", func(t *testing.T) { c.stream(t, 0) })
		for _, size := range []int{1, 2, 3, 7, len(c.Steps) + 1} {
			name := fmt.Sprintf("batches-of-%d", size)
			if size > len(c.Steps) {
				name = "one-batch"
			}
			t.Run(name, func(t *testing.T) { c.stream(t, size) })
		}
	case "config":
		c.refused(t)
	case "scenario":
		c.scenario(t)
	default:
		t.Fatalf("kind %q is not known", c.Kind)
	}
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func (c *row) windows(t *testing.T) window.Windows {
	t.Helper()
	switch c.Win.Type {
	case "tumbling":
		return window.Tumbling(millis(c.Win.Size), millis(c.Win.Offset))
	case "hopping":
		return window.Hopping(millis(c.Win.Size), millis(c.Win.Slide), millis(c.Win.Offset))
	case "session":
		return window.Session(millis(c.Win.Gap))
	case "calendar":
		units := map[string]window.Unit{"day": window.Day, "week": window.Week, "month": window.Month}
		if units[c.Win.Unit] == 0 {
			t.Fatalf("win: unit %q is not known", c.Win.Unit)
		}
		return window.Calendar(units[c.Win.Unit], c.Win.Zone)
	}
	t.Fatalf("win: type %q is not known", c.Win.Type)
	return window.Windows{}
}

func (c *row) assign(t *testing.T) {
	cfg := window.Config{Windows: c.windows(t)}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if len(c.T) != len(c.Windows) {
		t.Fatalf("%d times, %d lists of windows", len(c.T), len(c.Windows))
	}
	for i, at := range c.T {
		var got [][2]int64
		for _, w := range cfg.Windows.Of(at) {
			got = append(got, [2]int64{w.Start, w.End})
		}
		if !slices.Equal(got, c.Windows[i]) {
			t.Errorf("%s.Of(%d) = %v, want %v", cfg.Windows, at, got, c.Windows[i])
		}
	}
}

func (c *row) config(t *testing.T) window.Config {
	t.Helper()
	cfg := window.Config{
		Windows: c.windows(t), Aggregate: window.Sum(), Partitions: c.Partitions, Lateness: millis(c.Lateness), Idle: millis(c.Idle),
		NoIdleAdvance: !c.IdleAdvance, MaxFuture: millis(c.MaxFuture), Manual: c.Bound == nil,
	}
	if c.MaxFuture == 0 {
		cfg.MaxFuture = window.Unlimited
	}
	var bound int64
	var bounds []int64
	switch {
	case c.Bound == nil:
	case json.Unmarshal(c.Bound, &bound) == nil:
		cfg.Bound = millis(bound)
	case json.Unmarshal(c.Bound, &bounds) == nil:
		for _, b := range bounds {
			cfg.Bounds = append(cfg.Bounds, millis(b))
		}
	default:
		t.Fatalf("bound: %s is neither a number nor a list", c.Bound)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// stream runs the steps, and commits after so many of them; 0: after each, and with nothing left out.
func (c row) stream(t *testing.T, batch int) {
	t.Parallel()
	d := newDriver(t, c.config(t), batch)
	for i, step := range c.Steps {
		if err := d.step(step); err != nil {
			t.Fatalf("step %d, %q: %v", i+1, step, err)
		}
	}
	d.commit()

	if batch == 0 {
		diff(t, "panes", paneLines(d.results), c.Panes)
	}
	wanted := make(map[string]string)
	for _, line := range c.Panes {
		f := strings.Fields(line)
		if len(f) != 6 {
			t.Fatalf("pane %q has not six fields", line)
		}
		settle(wanted, f[0]+" "+f[1]+" "+f[2], f[5])
	}
	values := make(map[string]string)
	for _, line := range paneLines(d.results) {
		f := strings.Fields(line)
		settle(values, f[0]+" "+f[1]+" "+f[2], f[5])
	}
	diff(t, "values", sortedPairs(values), sortedPairs(wanted))
	diff(t, "late", set(asSaid(d.late, c.Late)), set(c.Late))
	diff(t, "dup", sorted(d.dup), sorted(c.Dup))
	diff(t, "backfill", retractsFirst(d.backfill), retractsFirst(c.Backfill))
	if c.Final != nil {
		final := make(map[string]string)
		for k, v := range c.Final {
			final[k] = strconv.FormatInt(v, 10)
		}
		for _, line := range d.backfill {
			f := strings.Fields(line)
			settle(values, f[0]+" "+f[1]+" "+f[2], f[4])
		}
		diff(t, "final", sortedPairs(values), sortedPairs(final))
	}
}

// settle keeps the last value of a window, and none of a retracted one.
func settle(values map[string]string, at, value string) {
	if value == "-" {
		delete(values, at)
		return
	}
	values[at] = value
}

func diff(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// asSaid leaves the windows of an event that is dated ahead out where the row does: which they are is not the point of it.
func asSaid(got, want []string) []string {
	var all []string
	for _, line := range got {
		if f := strings.Fields(line); f[1] == "future_skew" && slices.Contains(want, f[0]+" "+f[1]) {
			line = f[0] + " " + f[1]
		}
		all = append(all, line)
	}
	return all
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }
func set(s []string) []string    { return slices.Compact(sorted(s)) }

func sortedPairs(m map[string]string) []string {
	var all []string
	for k, v := range m {
		all = append(all, k+": "+v)
	}
	return sorted(all)
}

func retractsFirst(lines []string) []string {
	return slices.SortedFunc(slices.Values(lines), func(a, b string) int {
		if x, y := strings.HasSuffix(a, " retract -"), strings.HasSuffix(b, " retract -"); x != y {
			if x {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
}

func paneLines(results []window.Result) []string {
	var lines []string
	for _, r := range results {
		lines = append(lines, fmt.Sprintf("%s %d %d %d %s %s", r.Key, r.Start, r.End, r.Revision, r.Timing, value(r)))
	}
	return lines
}

func value(r window.Result) string {
	if r.Timing == window.Retract {
		return "-"
	}
	return strconv.FormatInt(r.Value.Number, 10)
}
