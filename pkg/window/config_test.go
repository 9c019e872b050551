package window_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

func TestConfigNamesFieldAndRule(t *testing.T) {
	t.Parallel()
	minute := window.Tumbling(time.Minute, 0)
	for _, c := range []struct {
		name  string
		cfg   window.Config
		field string // empty: valid
		rule  string
	}{
		{"the least", window.Config{Windows: minute}, "", ""},
		{"everything", window.Config{Windows: window.Tumbling(time.Minute, -59*time.Second), Aggregate: window.Sum, Bound: time.Hour, MaxFuture: window.Unlimited}, "", ""},
		{"no windows", window.Config{}, "Windows", "required"},
		{"size 0", window.Config{Windows: window.Tumbling(0, 0)}, "Windows.Size", "more than 0"},
		{"size negative", window.Config{Windows: window.Tumbling(-time.Minute, 0)}, "Windows.Size", "more than 0"},
		{"size below a millisecond", window.Config{Windows: window.Tumbling(time.Microsecond, 0)}, "Windows.Size", "whole milliseconds"},
		{"offset as large as the size", window.Config{Windows: window.Tumbling(time.Minute, time.Minute)}, "Windows.Offset", "nearer to 0"},
		{"offset as large as the size, back", window.Config{Windows: window.Tumbling(time.Minute, -time.Minute)}, "Windows.Offset", "nearer to 0"},
		{"offset of half a millisecond", window.Config{Windows: window.Tumbling(time.Minute, 500*time.Microsecond)}, "Windows.Offset", "whole milliseconds"},
		{"unknown aggregate", window.Config{Windows: minute, Aggregate: 9}, "Aggregate", "Count or Sum"},
		{"bound negative", window.Config{Windows: minute, Bound: -time.Second}, "Bound", "0 or more"},
		{"bound of half a millisecond", window.Config{Windows: minute, Bound: 500 * time.Microsecond}, "Bound", "whole milliseconds"},
		{"max future negative", window.Config{Windows: minute, MaxFuture: -time.Second}, "MaxFuture", "0 or more"},
		{"max future of half a millisecond", window.Config{Windows: minute, MaxFuture: 500 * time.Microsecond}, "MaxFuture", "whole milliseconds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := window.New(c.cfg)
			if c.field == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			var field *window.FieldError
			if !errors.As(err, &field) || field.Field != c.field || !strings.Contains(field.Rule, c.rule) {
				t.Errorf("got %v, want field %s, rule %q", err, c.field, c.rule)
			}
		})
	}
}

func TestConfigReportsEveryError(t *testing.T) {
	t.Parallel()
	err := window.Config{Bound: -1 * time.Second, MaxFuture: -2 * time.Second, Aggregate: 7}.Validate()
	for _, field := range []string{"Windows", "Aggregate", "Bound", "MaxFuture"} {
		if err == nil || !strings.Contains(err.Error(), "window config: "+field+": ") {
			t.Errorf("%s is not named in %v", field, err)
		}
	}
}
