package window_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

// refused are the configurations of the rows of kind config: what each must be refused with.
func (c *row) refused(t *testing.T) {
	minute := window.Tumbling(time.Minute, 0)
	type refusal struct {
		cfg   window.Config
		field string // empty: allowed
	}
	cases := map[string][]refusal{
		"X01": {
			{window.Config{Windows: window.Tumbling(0, 0)}, "Windows.Size"}, {window.Config{Windows: window.Tumbling(-time.Minute, 0)}, "Windows.Size"},
			{window.Config{Windows: window.Hopping(0, time.Minute, 0)}, "Windows.Size"},
		},
		"X02": {
			{window.Config{Windows: window.Hopping(time.Hour, 0, 0)}, "Windows.Slide"}, {window.Config{Windows: window.Hopping(time.Hour, -time.Minute, 0)}, "Windows.Slide"},
			{window.Config{Windows: window.Hopping(time.Hour, 2*time.Hour, 0)}, "Windows.Slide"}, {window.Config{Windows: window.Hopping(time.Hour, time.Hour, 0)}, ""},
		},
		"X03": {
			{window.Config{Windows: window.Tumbling(time.Minute, time.Minute)}, "Windows.Offset"}, {window.Config{Windows: window.Tumbling(time.Minute, -time.Minute)}, "Windows.Offset"},
			{window.Config{Windows: window.Hopping(time.Hour, time.Minute, time.Minute)}, "Windows.Offset"}, {window.Config{Windows: window.Hopping(time.Hour, time.Minute, 1-time.Minute+time.Millisecond-1)}, ""},
		},
		"X04": {{window.Config{Windows: window.Session(0)}, "Windows.Gap"}, {window.Config{Windows: window.Session(-time.Second)}, "Windows.Gap"}},
		"X05": {
			{window.Config{Windows: minute, Lateness: -time.Second}, "Lateness"}, {window.Config{Windows: minute}, ""}, {window.Config{Windows: minute, Lateness: time.Hour}, ""},
		},
		"X06": {
			{window.Config{Windows: minute, Bound: -time.Second}, "Bound"}, {window.Config{Windows: minute}, ""},
			{window.Config{Windows: minute, Partitions: 2, Bounds: []time.Duration{0, -time.Second}}, "Bounds[1]"},
		},
		"X07": {{window.Config{Windows: minute, Idle: -time.Second}, "Idle"}, {window.Config{Windows: minute, Partitions: 2}, ""}},
		"X08": {
			{window.Config{Windows: window.Calendar(window.Day, "Europe/Atlantis")}, "Windows.Zone"}, {window.Config{Windows: window.Calendar(window.Day, "Local")}, "Windows.Zone"},
			{window.Config{Windows: window.Calendar(window.Day, "")}, "Windows.Zone"}, {window.Config{Windows: window.Calendar(window.Day, "UTC")}, ""},
		},
	}
	switch c.ID {
	case "X07":
		if len((window.Config{Windows: minute, Partitions: 2}).Warnings()) != 1 || len((window.Config{Windows: minute, Partitions: 2, Idle: time.Second}).Warnings()) != 0 {
			t.Error("no idle timeout with two partitions is not warned about, or one is")
		}
	case "X09":
		changedConfig(t)
		return
	case "X10":
		invalidEvents(t)
		return
	}
	if cases[c.ID] == nil {
		t.Skipf("in prose, and not one of this test's: %s", c.Note)
	}
	for _, r := range cases[c.ID] {
		_, err := window.New(r.cfg)
		var field *window.FieldError
		if (err == nil) != (r.field == "") || err != nil && (!errors.As(err, &field) || field.Field != r.field) {
			t.Errorf("%+v: got %v, want the field %q", r.cfg, err, r.field)
		}
	}
}

// ofTheService tells the scenarios that kill a service: nothing of this package could fail in them. The value is the test that does it with a real process, in
// services/analytics; another package's test can't be run from here, so the row is logged and passes without a claim.
func (c *row) ofTheService() string {
	if c.Kind != "scenario" {
		return ""
	}
	return map[string]string{
		"C01": "TestKilledAnywhere", "C02": "TestKilledAnywhere", "C03": "TestKilledAnywhere", "C04": "TestStaleInstanceIsRefused",
		"C07": "TestStalledReaderTakesNoPartitionForSilent -tags long", "C09": "TestOlderCopyOfTheLogIsRefused", "C10": "TestFullStreamLosesNothing",
	}[c.ID]
}

// scenario runs the property of the row.
func (c *row) scenario(t *testing.T) {
	properties := map[string]func(*testing.T){
		"P01": TestStreamingEqualsBatchOverAccepted, "P02": TestStreamingAndBackfillEqualBatch, "P03": TestBatchesChangeNothing, "P04": TestRestoreAnywhereChangesNothing,
		"P05": TestOrderWithinTheBoundDoesNotMatter, "P06": TestWatermarkAndRevisions, "P07": TestEveryEventHasOneVerdict, "P08": TestStateIsBounded,
		"C05": TestRestoreKeepsWhoIsLate, "C06": TestRestoreDoesNotFireAgain, "C08": TestReplayGivesTheSameBytes,
	}
	if properties[c.ID] == nil {
		t.Skipf("in prose, and not one of this test's: %s", c.Note)
	}
	properties[c.ID](t)
}
