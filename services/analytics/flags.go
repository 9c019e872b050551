package analytics

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// Flags are the settings as programs take them, with the struct tags of their command lines.
type Flags struct {
	Bound    time.Duration `env:"TIDEMARK_BOUND" default:"1m" help:"How far each watermark stays behind the newest event time."`
	Lateness time.Duration `env:"TIDEMARK_LATENESS" default:"5m" help:"How long a window takes late events after it has come out."`
	Idle     time.Duration `env:"TIDEMARK_IDLE" default:"10s" help:"A partition that is silent for so long is not waited for; 0: it is, for ever."`
	Mode     string        `env:"TIDEMARK_MODE" default:"per-event" help:"When results come out: per-event, or micro-batches such as 100ms, 1000events or 1s,1000events."`
	Queries  string        `env:"TIDEMARK_QUERIES" help:"File with settings of single queries (JSON)."`
}

// Config reads the file, if there is one, and puts all together.
func (f Flags) Config() (Config, error) {
	s := DefaultSettings()
	s.Bound, s.Lateness, s.Idle = f.Bound, f.Lateness, f.Idle
	var err error
	if s.Mode, err = ParseMode(f.Mode); err != nil {
		return Config{}, err
	}
	cfg := Config{Queries: DefaultQueries(), Default: &s}
	if f.Queries != "" {
		raw, err := os.ReadFile(f.Queries)
		if err != nil {
			return Config{}, fmt.Errorf("queries file: %w", err)
		}
		if cfg.Settings, err = ParseSettings(raw, s, cfg.Queries); err != nil {
			return Config{}, fmt.Errorf("queries file %s: %w", f.Queries, err)
		}
	}
	return cfg, cfg.Validate()
}

// ParseSettings reads a queries file: a JSON object with a member for each query that differs from the defaults, by the query's name. It reports every error that it
// finds, each with query, field and rule.
func ParseSettings(raw []byte, defaults Settings, queries []Query) (map[string]Settings, error) {
	var file map[string]map[string]json.RawMessage
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if err := decoder.Decode(&file); err != nil {
		return nil, fmt.Errorf("must be a JSON object with an object for each query: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("goes on behind its end")
	}
	known := make([]string, len(queries))
	for i, q := range queries {
		known[i] = q.Name
	}
	out := make(map[string]Settings, len(file))
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(file)) {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("query %q: there is none of this name, there are %q", name, known))
			continue
		}
		s := defaults
		for _, field := range slices.Sorted(maps.Keys(file[name])) {
			if err := s.set(field, file[name][field]); err != nil {
				errs = append(errs, fmt.Errorf("query %q: %s: %w", name, field, err))
			}
		}
		out[name] = s
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

// set takes one field of a queries file.
func (s *Settings) set(field string, raw json.RawMessage) error {
	switch field {
	case "bound":
		return setDuration(&s.Bound, raw)
	case "lateness":
		return setDuration(&s.Lateness, raw)
	case "idle":
		return setDuration(&s.Idle, raw)
	case "max_future":
		return setDuration(&s.MaxFuture, raw)
	case "idle_advance":
		var advance bool
		if err := json.Unmarshal(raw, &advance); err != nil {
			return fmt.Errorf("must be true or false, is %s", raw)
		}
		s.HoldIdle = !advance
		return nil
	case "mode":
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return fmt.Errorf(`must be a text such as "per-event" or "1s", is %s`, raw)
		}
		var err error
		s.Mode, err = ParseMode(text)
		return err
	}
	return errors.New("there is no such field; there are bound, lateness, idle, idle_advance, max_future and mode")
}

func setDuration(to *time.Duration, raw json.RawMessage) error {
	var text string
	err := json.Unmarshal(raw, &text)
	d, parseErr := time.ParseDuration(text)
	if err != nil || parseErr != nil || d < 0 || d%time.Millisecond != 0 {
		return fmt.Errorf(`must be a time such as "90s" or "5m", in whole milliseconds, is %s`, raw)
	}
	*to = d
	return nil
}

// Line is the flags again, for a command line: those that are not at their defaults.
func (f Flags) Line() string {
	d := DefaultSettings()
	var b strings.Builder
	for _, one := range []struct{ name, value, usual string }{
		{"bound", f.Bound.String(), d.Bound.String()}, {"lateness", f.Lateness.String(), d.Lateness.String()}, {"idle", f.Idle.String(), d.Idle.String()},
		{"mode", f.Mode, d.Mode.String()}, {"queries", f.Queries, ""},
	} {
		if one.value != one.usual {
			fmt.Fprintf(&b, " --%s %s", one.name, one.value)
		}
	}
	return b.String()
}
