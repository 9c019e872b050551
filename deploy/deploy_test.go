// Package deploy_test holds what is deployed against what runs: every name in an alert or on a dashboard is a metric that a system has, and no metric grows with what passes through.
package deploy_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/system"
	"github.com/tidemark/tidemark/internal/telemetry"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

const patience = time.Minute

// running is a whole system in this process, and what it says at /metrics.
type running struct {
	t      *testing.T
	url    string
	client *client.Client
	placed int
}

func start(t *testing.T) *running {
	t.Helper()
	out := &output{}
	provider, err := telemetry.New(telemetry.Config{LogLevel: "warn", Output: out})
	if err != nil {
		t.Fatal(err)
	}
	const anyPort = "127.0.0.1:0"
	s, err := system.New(system.Config{
		HTTP: anyPort, Dir: t.TempDir(), NATSAddr: anyPort, GatewayAddr: anyPort, MailAddr: anyPort, Version: "test", Provider: provider, OrderDeadline: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v\n%s", err, out)
		}
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	c, err := client.New(client.Config{URL: s.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &running{t: t, url: s.URL(), client: c}
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (r *running) post(path, contentType, body string) string {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Prefer", "wait=20")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		r.t.Fatalf("POST %s: %d %s", path, res.StatusCode, answer)
	}
	return string(answer)
}

// trade does a bit of everything: orders of new customers and SKUs that are confirmed, refused, and whose mail makes a dead letter; clicks of new users.
func (r *running) trade(n int) {
	r.t.Helper()
	for range n {
		r.placed++
		sku := fmt.Sprintf("SKU-%d", r.placed)
		r.post("/v1/stock/"+sku+"/receipts", "application/json", `{"quantity": 5}`)
		if r.placed == 1 {
			r.post("/v1/stock/POISON%20APPLE/receipts", "application/json", `{"quantity": 1000}`)
		}
		for _, line := range []string{sku, "NOT-THERE", "POISON APPLE"} {
			r.post("/v1/orders", "application/json", fmt.Sprintf(`{"customer": "customer-%d-%s", "email": "c%d@customers.example", "currency": "EUR", "lines": [{"sku": %q, "quantity": 1, "unit_price": "1.00"}]}`,
				r.placed, strings.ToLower(line[:1]), r.placed, line))
		}
		r.post("/v1/clicks", "application/cloudevents+json", fmt.Sprintf(
			`{"specversion": "1.0", "id": "click-%d", "source": "/test", "type": "shop.page.clicked.v1", "data": {"user": "user-%d", "page": "/p/%d"}}`, r.placed, r.placed, r.placed))
	}
}

// series is one line of /metrics.
type series struct {
	name   string
	labels map[string]string
}

var (
	sample = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? `)
	label  = regexp.MustCompile(`([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"`)
)

func (r *running) scrape() map[string]series {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.url+"/metrics", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	all := make(map[string]series)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		m := sample.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		s := series{name: m[1], labels: map[string]string{}}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			s.labels[l[1]] = l[2]
		}
		all[m[1]+"{"+m[2]+"}"] = s
	}
	return all
}

// names are those of the metrics, each with its labels.
func names(all map[string]series) map[string]map[string]bool {
	out := make(map[string]map[string]bool)
	for _, s := range all {
		if out[s.name] == nil {
			out[s.name] = make(map[string]bool)
		}
		for l := range s.labels {
			out[s.name][l] = true
		}
	}
	return out
}

// TestMetrics: what is asked for is there, and does not grow with the number of orders, customers, articles and users.
func TestMetrics(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.trade(2)
	var all map[string]series
	eventstest.Eventually(t, patience, "the dead letters and the windows are measured", func() bool {
		all = r.scrape()
		there := names(all)
		return there["tidemark_dlq_letters"] != nil && there["tidemark_dlq_new_causes_total"] != nil && there["tidemark_analytics_watermark_milliseconds"] != nil && there["tidemark_group_lag"] != nil
	})
	there := names(all)
	for _, file := range files(t) {
		for _, q := range file.queries {
			checkQuery(t, file.name, q, there)
		}
	}
	for _, s := range all {
		for name, value := range s.labels {
			if !slices.Contains(knownLabels(), name) {
				t.Errorf("%s has the label %s=%q: a label must have few values; if this one has, add it here", s.name, name, value)
			}
			if name != "le" && name != "version" && regexp.MustCompile(`[a-z2-7]{26}|SKU|customer-[0-9]|user-[0-9]|POISON|@|[0-9]{3,}`).MatchString(value) && name != "http_response_status_code" {
				t.Errorf("%s has the label %s=%q, which looks like an id", s.name, name, value)
			}
		}
	}
	before := len(all)
	r.trade(15)
	var after map[string]series
	eventstest.Eventually(t, patience, "all orders are told", func() bool { after = r.scrape(); return len(after) >= before })
	if grown := len(after) - before; grown > 40 { // a few that the first orders did not meet; one for each order would be 45, and more of each histogram
		var fresh []string
		for key := range after {
			if _, ok := all[key]; !ok {
				fresh = append(fresh, key)
			}
		}
		slices.Sort(fresh)
		t.Errorf("45 orders made %d new series:\n%s", grown, strings.Join(fresh, "\n"))
	}
}

func knownLabels() []string {
	return []string{
		"service", "group", "reason", "state", "of", "query", "verdict", "stream", "messaging_consumer_group_name", "messaging_system", "result", "type", "outcome", "channel", "role", "messaging_nats_stream", "le", "quantile", "version",
		"http_request_method", "http_route", "http_response_status_code", "error_type", "otel_scope_name", "otel_scope_version", "otel_scope_schema_url", "projection", "cause",
	}
}

// file is something that asks Prometheus.
type file struct {
	name    string
	queries []string
}

// files are the alerts and the dashboards.
func files(t *testing.T) []file {
	t.Helper()
	out := []file{{name: "alerts.yaml"}}
	next := regexp.MustCompile(`(?m)^        (?:for|labels):`) // what follows an expression
	for _, rule := range rules(t) {
		_, query, _ := strings.Cut(rule, "expr:")
		out[0].queries = append(out[0].queries, query[:next.FindStringIndex(query)[0]])
	}
	boards, err := filepath.Glob("grafana/*.json")
	if err != nil || len(boards) < 4 {
		t.Fatalf("%d dashboards, %v", len(boards), err)
	}
	for _, name := range boards {
		out = append(out, file{name: name, queries: boardQueries(t, name)})
	}
	return out
}

// rules are the alerts, each from its name on.
func rules(t *testing.T) []string {
	t.Helper()
	alerts, err := os.ReadFile("prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(alerts), "- alert: ")[1:]
}

func boardQueries(t *testing.T, name string) (queries []string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		UID    string `json:"uid"`
		Title  string `json:"title"`
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if board.UID == "" || board.Title == "" || len(board.Panels) < 3 {
		t.Errorf("%s: uid %q, title %q, %d panels", name, board.UID, board.Title, len(board.Panels))
	}
	for _, p := range board.Panels {
		if p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("%s: a panel without a title or a query", name)
		}
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	return queries
}

var (
	metricName = regexp.MustCompile(`\b(?:tidemark|messaging|http|go|process)_[a-z0-9_]+\b`)
	grouping   = regexp.MustCompile(`\b(?:by|without) \(([^)]*)\)`)
	selector   = regexp.MustCompile(`\b((?:tidemark|messaging|http|go|process)_[a-z0-9_]+)\{([^}]*)\}`)
)

// checkQuery: each metric exists, and has the labels that are asked for.
func checkQuery(t *testing.T, where, query string, there map[string]map[string]bool) {
	t.Helper()
	bare := grouping.ReplaceAllString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(query, `""`), "")
	found := metricName.FindAllString(regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(bare, ""), -1)
	if len(found) == 0 {
		t.Errorf("%s: %q asks for no metric", where, query)
	}
	labels := map[string]bool{}
	for _, name := range found {
		if there[name] == nil && !rare(name) {
			t.Errorf("%s: there is no metric %s; there are %v", where, name, slices.Sorted(maps.Keys(there)))
		}
		maps.Copy(labels, there[name])
	}
	for _, m := range grouping.FindAllStringSubmatch(query, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			if l = strings.TrimSpace(l); !labels[l] && !slices.ContainsFunc(found, rare) {
				t.Errorf("%s: %q groups by %s; the metrics have %v", where, query, l, slices.Sorted(maps.Keys(labels)))
			}
		}
	}
	for _, m := range selector.FindAllStringSubmatch(query, -1) {
		for part := range strings.SplitSeq(m[2], ",") {
			l, _, _ := strings.Cut(part, "=")
			if l = strings.TrimRight(strings.TrimSpace(l), "!~"); !there[m[1]][l] && !rare(m[1]) {
				t.Errorf("%s: %s has no label %s", where, m[1], cmp.Or(l, part))
			}
		}
	}
}

// rare are metrics that come to be only when something goes wrong that this test does not break.
func rare(name string) bool {
	return slices.Contains([]string{"tidemark_bus_refusing", "tidemark_bus_paused", "tidemark_bus_replays_total", "tidemark_bus_retried_total", "tidemark_bus_resets_total", "tidemark_bus_rebalances_total"}, name)
}

// TestEveryAlertHasARunbookAndTests: an alert that says nothing to whoever it wakes is noise.
func TestEveryAlertHasARunbookAndTests(t *testing.T) {
	t.Parallel()
	tests, err := os.ReadFile("prometheus/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(rules(t)); n < 8 {
		t.Errorf("%d alerts", n)
	}
	for _, rule := range rules(t) {
		name, _, _ := strings.Cut(rule, "\n")
		if !bytes.Contains(tests, []byte("alertname: "+name+", exp_alerts: [{")) {
			t.Errorf("%s: no test in which it fires", name)
		}
		m := regexp.MustCompile(`runbook: (\S+)`).FindStringSubmatch(rule)
		if m == nil {
			t.Errorf("%s has no runbook", name)
			continue
		}
		page, err := os.ReadFile(filepath.Join("..", m[1]))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range []string{"`" + name + "`", "## What to look at", "## What to do", "```sh"} {
			if !bytes.Contains(page, []byte(want)) {
				t.Errorf("%s: %s does not have %q", name, m[1], want)
			}
		}
	}
}
