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
		{"everything", window.Config{
			Windows: window.Hopping(time.Hour, time.Minute, -59*time.Second), Aggregate: window.Top(3), Partitions: 2, Bounds: []time.Duration{0, time.Hour},
			Lateness: 24 * time.Hour, Idle: time.Second, MaxFuture: window.Unlimited, NoIdleAdvance: true, Manual: true,
		}, "", ""},
		{"no windows", window.Config{}, "Windows", "required"},
		{"size 0", window.Config{Windows: window.Tumbling(0, 0)}, "Windows.Size", "more than 0"},
		{"size negative", window.Config{Windows: window.Tumbling(-time.Minute, 0)}, "Windows.Size", "more than 0"},
		{"size below a millisecond", window.Config{Windows: window.Tumbling(time.Microsecond, 0)}, "Windows.Size", "whole milliseconds"},
		{"slide larger than the size", window.Config{Windows: window.Hopping(time.Hour, 2*time.Hour, 0)}, "Windows.Slide", "not be more than the size 1h0m0s"},
		{"slide below a millisecond", window.Config{Windows: window.Hopping(time.Hour, time.Microsecond, 0)}, "Windows.Slide", "whole milliseconds"},
		{"offset as large as the size", window.Config{Windows: window.Tumbling(time.Minute, time.Minute)}, "Windows.Offset", "nearer to 0 than the size"},
		{"offset as large as the slide, back", window.Config{Windows: window.Hopping(time.Hour, time.Minute, -time.Minute)}, "Windows.Offset", "nearer to 0 than the slide"},
		{"offset of half a millisecond", window.Config{Windows: window.Tumbling(time.Minute, 500*time.Microsecond)}, "Windows.Offset", "whole milliseconds"},
		{"gap 0", window.Config{Windows: window.Session(0)}, "Windows.Gap", "more than 0"},
		{"no such unit", window.Config{Windows: window.Calendar(9, "UTC")}, "Windows.Unit", "Day, Week or Month"},
		{"no such zone", window.Config{Windows: window.Calendar(window.Day, "Europe/Atlantis")}, "Windows.Zone", "time zone database"},
		{"a zone of the machine", window.Config{Windows: window.Calendar(window.Day, "Local")}, "Windows.Zone", "name of a place"},
		{"no zone", window.Config{Windows: window.Calendar(window.Day, "")}, "Windows.Zone", "required"},
		{"top nothing", window.Config{Windows: minute, Aggregate: window.Top(0)}, "Aggregate", "1 item or more"},
		{"bound negative", window.Config{Windows: minute, Bound: -time.Second}, "Bound", "0 or more"},
		{"bound of half a millisecond", window.Config{Windows: minute, Bound: 500 * time.Microsecond}, "Bound", "whole milliseconds"},
		{"a bound too many", window.Config{Windows: minute, Bounds: []time.Duration{0, 0}}, "Bounds", "one for each of 1 partitions, are 2"},
		{"bound beside bounds", window.Config{Windows: minute, Bound: time.Second, Bounds: []time.Duration{0}}, "Bound", "beside Bounds"},
		{"one of the bounds negative", window.Config{Windows: minute, Partitions: 2, Bounds: []time.Duration{0, -1 * ms}}, "Bounds[1]", "0 or more"},
		{"partitions negative", window.Config{Windows: minute, Partitions: -1}, "Partitions", "0 to 65536"},
		{"lateness negative", window.Config{Windows: minute, Lateness: -time.Second}, "Lateness", "0 or more"},
		{"idle negative", window.Config{Windows: minute, Idle: -time.Second}, "Idle", "0 or more"},
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
	err := window.Config{Bound: -1 * time.Second, MaxFuture: -2 * time.Second, Aggregate: window.Top(-1), Lateness: -1, Idle: -1, Partitions: -1}.Validate()
	for _, field := range []string{"Windows", "Aggregate", "Bound", "MaxFuture", "Lateness", "Idle", "Partitions"} {
		if err == nil || !strings.Contains(err.Error(), "window config: "+field+": ") {
			t.Errorf("%s is not named in %v", field, err)
		}
	}
}
