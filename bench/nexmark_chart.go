package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
)

type chartCmd struct {
	In  string `required:"" help:"Figures, a JSON object a line."`
	Out string `required:"" help:"The SVG."`
}

// point is what a mode did at a rate: the medians of its runs.
type point struct{ rate, p50, p99, cpu float64 }

// Run draws latency and CPU time over the rate, a line for each mode.
func (c *chartCmd) Run(*bench) error {
	runs, err := loadFigures(c.In)
	if err != nil {
		return err
	}
	lines := make(map[string][]point)
	for mode, byRate := range grouped(runs) {
		for rate, all := range byRate {
			lines[mode] = append(lines[mode], point{
				rate, medianOf(all, func(f *figures) float64 { return f.P50 }), medianOf(all, func(f *figures) float64 { return f.P99 }),
				medianOf(all, func(f *figures) float64 { return f.CPU + f.CPUBroker }),
			})
		}
		slices.SortFunc(lines[mode], func(a, b point) int { return cmp.Compare(a.rate, b.rate) })
	}
	if len(lines) == 0 {
		return fmt.Errorf("%s: has no run of all queries at a rate", c.In)
	}
	return os.WriteFile(c.Out, []byte(drawChart(lines)), 0o644) //nolint:gosec // to be read by all
}

func loadFigures(name string) ([]figures, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	var all []figures
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var f figures
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, f)
	}
	return all, nil
}

// grouped are the runs of all queries, by mode and rate.
func grouped(runs []figures) map[string]map[float64][]figures {
	all := make(map[string]map[float64][]figures)
	for _, f := range runs {
		if f.Queries != "" || f.Rate == 0 {
			continue
		}
		if all[f.Mode] == nil {
			all[f.Mode] = make(map[float64][]figures)
		}
		all[f.Mode][f.Rate] = append(all[f.Mode][f.Rate], f)
	}
	return all
}

func medianOf(all []figures, of func(*figures) float64) float64 {
	var values []float64
	for i := range all {
		values = append(values, of(&all[i]))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// axis maps a range to pixels, evenly or by the logarithm.
type axis struct {
	least, most float64
	from, to    float64
	log         bool
}

func (a axis) at(v float64) float64 {
	least, most := a.least, a.most
	if a.log {
		v, least, most = math.Log10(max(v, a.least)), math.Log10(a.least), math.Log10(a.most)
	}
	return a.from + (v-least)/(most-least)*(a.to-a.from)
}

// chartColour is one that all can tell apart (Okabe and Ito).
func chartColour(i int) string {
	colours := [...]string{"#0072b2", "#d55e00", "#009e73", "#cc79a7"}
	return colours[i%len(colours)]
}

const chartHead = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 400" font-family="sans-serif" font-size="13" role="img">
<title>Emission latency and CPU time by rate, for each mode</title>
<rect width="960" height="400" fill="#ffffff"/>
`

func drawChart(lines map[string][]point) string {
	var b strings.Builder
	b.WriteString(chartHead)
	modes := slices.SortedFunc(maps.Keys(lines), func(a, b string) int { return cmp.Compare(lines[a][0].p50, lines[b][0].p50) })
	most, slowest, dearest := 0., 0., 0.
	for _, all := range lines {
		for _, p := range all {
			most, slowest, dearest = max(most, p.rate), max(slowest, p.p99), max(dearest, p.cpu)
		}
	}
	x := func(from float64) axis { return axis{0, most * 1.05, from, from + 380, false} }
	latency := axis{1, math.Pow(10, math.Ceil(math.Log10(slowest))), 330, 50, true}
	panel(&b, "Emission latency (ms): p99, and p50 dashed", x(70), latency, ticksOf(latency))
	cost := axis{0, math.Ceil(dearest/20) * 20, 330, 50, false}
	panel(&b, "CPU a message (µs): analytics and nats-server", x(550), cost, ticksOf(cost))
	for i, mode := range modes {
		colour := chartColour(i)
		line(&b, lines[mode], colour, "", x(70), latency, func(p point) float64 { return p.p99 })
		line(&b, lines[mode], colour, "5 4", x(70), latency, func(p point) float64 { return p.p50 })
		line(&b, lines[mode], colour, "", x(550), cost, func(p point) float64 { return p.cpu })
		at := 300 + i*150
		fmt.Fprintf(&b, `<rect x="%d" y="381" width="14" height="4" fill="%s"/><text x="%d" y="388" fill="#222222">%s</text>`+"\n", at, colour, at+20, mode)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func ticksOf(a axis) []float64 {
	var all []float64
	if a.log {
		for v := a.least; v <= a.most*1.001; v *= 10 {
			all = append(all, v)
		}
		return all
	}
	for i := range 5 {
		all = append(all, a.least+(a.most-a.least)*float64(i)/4)
	}
	return all
}

func panel(b *strings.Builder, title string, x, y axis, ticks []float64) {
	fmt.Fprintf(b, `<text x="%.0f" y="30" font-weight="bold" fill="#222222">%s</text>`+"\n", x.from, title)
	for _, v := range ticks {
		fmt.Fprintf(b, `<path d="M%.0f %.1fH%.0f" stroke="#dddddd"/><text x="%.0f" y="%.1f" text-anchor="end" fill="#444444">%g</text>`+"\n", x.from, y.at(v), x.to, x.from-6, y.at(v)+4, v)
	}
	step := math.Pow(10, math.Floor(math.Log10(x.most)))
	for x.most/step < 4 {
		step /= 2
	}
	for v := 0.; v <= x.most; v += step {
		fmt.Fprintf(b, `<text x="%.1f" y="348" text-anchor="middle" fill="#444444">%g</text>`+"\n", x.at(v), v)
	}
	fmt.Fprintf(b, `<text x="%.0f" y="366" text-anchor="middle" fill="#444444">messages a second</text>`+"\n", (x.from+x.to)/2)
}

func line(b *strings.Builder, all []point, colour, dash string, x, y axis, of func(point) float64) {
	var path strings.Builder
	for i, p := range all {
		fmt.Fprintf(&path, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[i == 0], x.at(p.rate), y.at(of(p)))
		if dash == "" {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x.at(p.rate), y.at(of(p)), colour)
		}
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`+"\n", path.String(), colour, dash)
}
