package analytics

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestModesHaveATextForm(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Mode{
		"per-event": {}, "100ms": {Every: 100 * time.Millisecond}, "5s": {Every: 5 * time.Second}, "1000events": {Events: 1000}, "1s,1000events": {Every: time.Second, Events: 1000},
	} {
		got, err := ParseMode(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: got %v (%s), %v", text, got, got, err)
		}
	}
	if got, err := ParseMode("7events,2s"); err != nil || got != (Mode{Every: 2 * time.Second, Events: 7}) {
		t.Errorf("the other order: got %v, %v", got, err)
	}
	for text, rule := range map[string]string{
		"": "must be per-event", "soon": "must be per-event", "1s,2s": "must be per-event", "5events,5events": "must be per-event", "-1s": "must be per-event", "0events": "must be per-event",
		"1ms": "must be 10ms to 10s", "1m": "must be 10ms to 10s", "1000000events": "must be 1 to 100000", "per-event,1s": "must be per-event",
	} {
		if _, err := ParseMode(text); err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("%q: got %v, want %q", text, err, rule)
		}
	}
}

func TestQueriesFile(t *testing.T) {
	t.Parallel()
	defaults := DefaultSettings()
	got, err := ParseSettings([]byte(`{
		"clicks-per-page": {"lateness": "1h", "mode": "5s"},
		"revenue-per-day": {"bound": "0s", "idle": "1m", "idle_advance": false, "max_future": "1m"}
	}`), defaults, DefaultQueries())
	if err != nil {
		t.Fatal(err)
	}
	clicks, days := defaults, defaults
	clicks.Lateness, clicks.Mode = time.Hour, Mode{Every: 5 * time.Second}
	days.Bound, days.Idle, days.HoldIdle, days.MaxFuture = 0, time.Minute, true, time.Minute
	if len(got) != 2 || got["clicks-per-page"] != clicks || got["revenue-per-day"] != days {
		t.Errorf("got %+v", got)
	}
	for file, want := range map[string][]string{
		`{"orders": {}}`: {`query "orders": there is none of this name`, "orders-per-minute"},
		`{"orders-per-minute": {"bond": "1s"}, "clicks-per-page": {"idle": "soon", "mode": "1h"}}`: {
			`query "orders-per-minute": bond: there is no such field`, `query "clicks-per-page": idle: must be a time such as "90s"`, `query "clicks-per-page": mode: mode: a time must be 10ms to 10s`,
		},
		`{"orders-per-minute": {"bound": "-1s"}}`:                              {`query "orders-per-minute": bound: must be a time`},
		`{"orders-per-minute": {"bound": 5, "idle_advance": "no", "mode": 1}}`: {"bound: must be a time", "idle_advance: must be true or false", "mode: must be a text"},
		`[]`: {"must be a JSON object"}, `{} {}`: {"goes on behind its end"}, ``: {"must be a JSON object"},
	} {
		_, err := ParseSettings([]byte(file), defaults, DefaultQueries())
		for _, text := range want {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: got %v, want %q", file, err, text)
			}
		}
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	usual := Flags{Bound: time.Minute, Lateness: 5 * time.Minute, Idle: 10 * time.Second, Mode: "per-event"}
	cfg, err := usual.Config()
	if err != nil || *cfg.Default != DefaultSettings() || usual.Line() != "" {
		t.Errorf("got %+v, %v, line %q", cfg.Default, err, usual.Line())
	}
	file := filepath.Join(t.TempDir(), "queries.json")
	if err := os.WriteFile(file, []byte(`{"units-per-sku": {"bound": "5s"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f := Flags{Bound: 0, Lateness: time.Hour, Mode: "1s", Queries: file}
	cfg, err = f.Config()
	if err != nil {
		t.Fatal(err)
	}
	if s := cfg.settingsOf("units-per-sku"); s.Bound != 5*time.Second || s.Lateness != time.Hour || s.Mode.Every != time.Second || s.Idle != 0 {
		t.Errorf("got %+v", s)
	}
	if s := cfg.settingsOf("orders-per-minute"); s.Bound != 0 {
		t.Errorf("got %+v", s)
	}
	if want := " --bound 0s --lateness 1h0m0s --idle 0s --mode 1s --queries " + file; f.Line() != want {
		t.Errorf("line %q, want %q", f.Line(), want)
	}
	for _, bad := range []Flags{{Mode: "never"}, {Mode: "per-event", Bound: -1}, {Mode: "per-event", Queries: file + ".missing"}} {
		if _, err := bad.Config(); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestConfigOfQueriesIsChecked(t *testing.T) {
	t.Parallel()
	qs := DefaultQueries()
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no name":            {func(c *Config) { c.Queries[0].Name = "" }, "query 0: name: required"},
		"a name twice":       {func(c *Config) { c.Queries[1].Name = c.Queries[0].Name }, `query "orders-per-minute": name: must be used once`},
		"no types":           {func(c *Config) { c.Queries[0].Types = nil }, `query "orders-per-minute": types: required`},
		"nothing that reads": {func(c *Config) { c.Queries[0].Read = nil }, `query "orders-per-minute": read: required`},
		"windows":            {func(c *Config) { c.Default = &Settings{Idle: -1} }, `query "orders-per-minute": window config: Idle: must be 0 or more`},
		"unknown":            {func(c *Config) { c.Settings = map[string]Settings{"x": {}} }, `settings of "x": there is no such query`},
		"mode":               {func(c *Config) { c.Default = &Settings{Mode: Mode{Every: time.Hour}} }, "must be 10ms to 10s"},
	} {
		cfg := Config{Queries: append([]Query(nil), qs...)}
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestGatheringHangsOnAllQueries(t *testing.T) {
	t.Parallel()
	second, half, counted := Settings{Mode: Mode{Every: time.Second}}, Settings{Mode: Mode{Every: 500 * time.Millisecond, Events: 50}}, Settings{Mode: Mode{Events: 5000}}
	for name, c := range map[string]struct {
		all      Settings
		one      *Settings
		wantWait time.Duration
		wantMost int
	}{
		"event by event":          {Settings{}, nil, 0, maxStep},
		"one event by event":      {second, &Settings{}, 0, maxStep},
		"all in batches":          {second, nil, time.Second, maxStep},
		"one in shorter ones":     {second, &half, 500 * time.Millisecond, 50},
		"of a number of events":   {counted, nil, leastGather, maxStep},
		"one of a number, others": {second, &counted, leastGather, maxStep},
	} {
		cfg := Config{Default: &c.all}
		if c.one != nil {
			cfg.Settings = map[string]Settings{"units-per-sku": *c.one}
		}
		p := testPlanOf(t, cfg)
		if wait, most := p.gather(); wait != c.wantWait || most != c.wantMost {
			t.Errorf("%s: got %s and %d, want %s and %d", name, wait, most, c.wantWait, c.wantMost)
		}
	}
}
