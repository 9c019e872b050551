package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The chart is XML, has a line for each mode, and takes medians.
func TestChart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := chartCmd{In: filepath.Join(dir, "in.jsonl"), Out: filepath.Join(dir, "out.svg")}
	lines := `{"mode":"per-event","rate":1000,"p50_ms":2,"p99_ms":5,"cpu_us":50,"cpu_broker_us":50}
{"mode":"per-event","rate":1000,"p50_ms":3,"p99_ms":9,"cpu_us":60,"cpu_broker_us":50}
{"mode":"per-event","rate":2000,"p50_ms":3,"p99_ms":9,"cpu_us":40,"cpu_broker_us":40}
{"mode":"1s","rate":2000,"p50_ms":500,"p99_ms":1000,"cpu_us":10,"cpu_broker_us":10}
{"mode":"1s","queries":"q5","rate":3000,"p50_ms":1,"p99_ms":1}
`
	if err := os.WriteFile(c.In, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(nil); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(c.Out)
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(string(svg), "<circle"); n != 6 { // three points in two panels
		t.Errorf("%d points, want 6", n)
	}
	for _, mode := range []string{">per-event<", ">1s<"} {
		if !strings.Contains(string(svg), mode) {
			t.Errorf("has no %s", mode)
		}
	}
}

// A run keeps up if what is on its way does not grow, and results are in time.
func TestKeepsUp(t *testing.T) {
	t.Parallel()
	level := []int{0, 50, 40, 60, 50, 40, 60, 50, 40, 60, 50, 40}
	growing := []int{0, 100, 900, 1800, 2600, 3500, 4300, 5200, 6100, 7000, 8000, 9000}
	for _, c := range []struct {
		name    string
		backlog []int
		p99     float64
		want    bool
	}{
		{"level", level, 20, true}, {"growing", growing, 20, false}, {"late", level, 1500, false}, {"too short to say", level[:4], 20, false},
	} {
		f := figures{Backlog: c.backlog, Rate: 1000, P99: c.p99}
		if got := f.keepsUp(0); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
