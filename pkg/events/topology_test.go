package events_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// covers reports whether every subject that filter matches is matched by pattern too. Both may hold "*" and, as their end, ">".
func covers(pattern, filter string) bool {
	p, f := strings.Split(pattern, "."), strings.Split(filter, ".")
	for i := range p {
		if p[i] == ">" {
			return len(f) > i
		}
		if i >= len(f) || f[i] == ">" || p[i] != "*" && p[i] != f[i] {
			return false
		}
	}
	return len(p) == len(f)
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, filter string
		want            bool
	}{
		{"a.*", "a.b", true}, {"a.*", "a.*", true}, {"a.b", "a.*", false}, {"a.*", "a.b.c", false}, {"a.>", "a.b.c", true}, {"a.>", "a", false},
		{"a.*", "a.>", false}, {"a.>", "a.>", true}, {"a.*.c", "a.b.d", false}, {">", "a.b", true},
	} {
		if got := covers(c.pattern, c.filter); got != c.want {
			t.Errorf("covers(%q, %q) = %t", c.pattern, c.filter, got)
		}
	}
}

// stored are the subjects under which a stream keeps messages.
func stored(topology *events.Topology, s events.Stream) []string {
	var subjects []string
	for _, source := range s.Sources {
		if source.Filter != "" {
			subjects = append(subjects, source.Filter)
			continue
		}
		origin, _ := topology.Stream(source.Stream)
		subjects = append(subjects, stored(topology, origin)...)
	}
	if s.TransformTo != "" {
		return append(subjects, regexp.MustCompile(`\{\{.*?\}\}`).ReplaceAllString(s.TransformTo, "*"))
	}
	return append(subjects, s.Subjects...)
}

func coveredByOne(patterns []string, subject string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return covers(p, subject) })
}

func TestTopologyHoldsTogether(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 8, 32} {
		topology := events.DefaultTopology(n)
		services := []string{events.ServiceOrder, events.ServiceInventory, events.ServiceNotify, events.ServiceAnalytics}
		known := func(where string, names []string) {
			for _, name := range names {
				if !slices.Contains(services, name) {
					t.Errorf("%s names the service %q, which there is not", where, name)
				}
			}
		}
		seen := make(map[string]bool)
		once := func(name string) {
			if seen[name] {
				t.Errorf("%s is declared twice", name)
			}
			seen[name] = true
		}
		for _, s := range topology.Streams {
			once("stream " + s.Name)
			known("stream "+s.Name, s.Publishers)
			known("stream "+s.Name, s.Readers)
			if s.Description == "" {
				t.Errorf("stream %s says nothing about itself", s.Name)
			}
			if (len(s.Sources) > 0) == (len(s.Subjects) > 0) {
				t.Errorf("stream %s must have subjects or sources, and not both", s.Name)
			}
			if s.DenyPurge && s.Schedules {
				t.Errorf("stream %s: the server clears DenyPurge where schedules are allowed", s.Name)
			}
			for _, source := range s.Sources {
				origin, ok := topology.Stream(source.Stream)
				if !ok {
					t.Errorf("stream %s copies %s, which there is not", s.Name, source.Stream)
				}
				if source.Filter != "" && !coveredByOne(origin.Subjects, source.Filter) {
					t.Errorf("stream %s copies %q, which %s never stores", s.Name, source.Filter, source.Stream)
				}
			}
		}
		for _, b := range topology.Buckets {
			once("bucket " + b.Name)
			known("bucket "+b.Name, b.Publishers)
			known("bucket "+b.Name, b.Readers)
		}
		for _, g := range topology.Groups {
			once("group " + g.Name)
			known("group "+g.Name, []string{g.Service})
			groupHoldsTogether(t, &topology, g)
		}
	}
}

func groupHoldsTogether(t *testing.T, topology *events.Topology, g events.Group) {
	t.Helper()
	stream, ok := topology.Stream(g.Stream)
	if !ok {
		t.Errorf("group %s reads %s, which there is not", g.Name, g.Stream)
		return
	}
	if !slices.Contains(stream.Readers, g.Service) {
		t.Errorf("group %s of %s reads %s, which does not name %s among its readers", g.Name, g.Service, g.Stream, g.Service)
	}
	if g.AckWait <= 0 || g.MaxPending <= 0 || g.PinnedTTL <= 0 || g.Partitions <= 0 || g.Description == "" {
		t.Errorf("group %s lacks a setting: %+v", g.Name, g)
	}
	if g.Filter == "" {
		if g.Partitions != 1 {
			t.Errorf("group %s reads everything in %d partitions: each event would be read %d times", g.Name, g.Partitions, g.Partitions)
		}
		return
	}
	for p := range g.Partitions {
		if !coveredByOne(stored(topology, stream), g.FilterOf(p)) {
			t.Errorf("group %s reads %q, which %s never stores", g.Name, g.FilterOf(p), g.Stream)
		}
		if g.Consumer(p) != g.Name+"-"+strconv.Itoa(p) {
			t.Errorf("consumer %q", g.Consumer(p))
		}
	}
}

func TestStreamsDoNotTakeEachOthersSubjects(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	for i, a := range topology.Streams {
		for _, b := range topology.Streams[i+1:] {
			for _, sa := range a.Subjects {
				for _, sb := range b.Subjects {
					if covers(sa, sb) || covers(sb, sa) {
						t.Errorf("%s (%s) and %s (%s) overlap", a.Name, sa, b.Name, sb)
					}
				}
			}
		}
	}
}

// What Subjects spells is what the streams store, and what exactly one partition of each group on the stream reads.
func TestSubjectsFitStreamsAndGroups(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	s := topology.Subjects()
	for _, key := range []string{"536365", "BANK CHARGES", "a.b", "*", ">", "", "€"} {
		for subject, want := range map[string]struct {
			stream string
			keyed  bool // read by one partition of each group that has partitions
		}{
			s.Order(key):                           {events.StreamOrders, true},
			s.StockOrder(key):                      {events.StreamStock, true},
			s.StockSKU(key):                        {events.StreamStock, false},
			s.Notice(key, 2, "email"):              {events.StreamNotices, false},
			s.Timer(key):                           {events.StreamTimers, false},
			s.Timeout(key):                         {events.StreamTimers, true},
			s.Window("q", key, 1):                  {events.StreamWindows, false},
			s.Commit("q", 0):                       {events.StreamWindows, false},
			s.Late("too_late", key):                {events.StreamLate, false},
			s.Alert("velocity", key, 1):            {events.StreamAlerts, false},
			s.Letter(events.GroupNotify, 3, key):   {events.StreamDLQ, false},
			s.LetterState(events.GroupNotify, key): {events.StreamDLQCtl, false},
			s.Job(events.GroupNotify, key):         {events.StreamDLQCtl, false},
			s.Crash(events.GroupNotify, 3):         {events.StreamDLQCtl, false},
			s.Click(key):                           {events.StreamClicks, false},
			events.SubjectTick:                     {events.StreamTicks, false},
			events.SubjectTickSchedule:             {events.StreamTicks, false},
		} {
			for _, stream := range topology.Streams {
				if coveredByOne(stream.Subjects, subject) != (stream.Name == want.stream) {
					t.Errorf("%q of key %q: stream %s takes it: %t", subject, key, stream.Name, stream.Name != want.stream)
				}
			}
			for _, g := range topology.Groups {
				if g.Stream != want.stream || g.Filter == "" {
					continue
				}
				var readers []int
				for p := range g.Partitions {
					if covers(g.FilterOf(p), subject) {
						readers = append(readers, p)
					}
				}
				if want.keyed && !slices.Equal(readers, []int{s.PartitionOf(key)}) {
					t.Errorf("%q of key %q: partitions %v of group %s read it, want %d alone", subject, key, readers, g.Name, s.PartitionOf(key))
				}
				if !want.keyed && len(readers) > 0 {
					t.Errorf("%q of key %q: group %s reads it", subject, key, g.Name)
				}
			}
		}
	}
	if !covers(s.WindowsOf("q"), s.Window("q", "k", 7)) || covers(s.WindowsOf("q"), s.Window("r", "k", 7)) {
		t.Error("WindowsOf does not filter the windows of its query alone")
	}
}

func TestLookUps(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(4)
	if s, ok := topology.Stream(events.StreamStock); !ok || s.Name != events.StreamStock {
		t.Errorf("Stream: %v, %t", s.Name, ok)
	}
	if _, ok := topology.Stream("NONE"); ok {
		t.Error("found a stream that there is not")
	}
	if g, ok := topology.Group(events.GroupNotify); !ok || g.Partitions != 4 {
		t.Errorf("Group: %+v, %t", g, ok)
	}
	if _, ok := topology.Group("none"); ok {
		t.Error("found a group that there is not")
	}
}

const docsDir = "../../docs/reference"

// The page is made from the declaration, so it can't say anything else: go test ./pkg/events -update writes it.
func TestTopologyPageIsUpToDate(t *testing.T) {
	t.Parallel()
	samePage(t, "topology.md", topologyPage(events.DefaultTopology(0)))
}

func samePage(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join(docsDir, name)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the code says now; go test ./pkg/events -update writes it anew", path)
	}
}

func topologyPage(topology events.Topology) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Topology")
	line("")
	line("<!-- Made from pkg/events (topology.go, channels.go) by: go test ./pkg/events -update -->")
	line("")
	line("Every stream, channel, consumer group and bucket, as `pkg/events/topology.go` and `pkg/events/channels.go` declare them for %d partitions.", topology.Partitions)
	line("A `*` in a subject stands for one token. Keys from outside (a SKU, a user) are encoded into one token.")
	line("")
	line("## Streams")
	line("")
	line("| stream | what it is | subjects | kept | published by | read by |")
	line("|---|---|---|---|---|---|")
	for _, s := range topology.Streams {
		line("| %s | %s | %s | %s | %s | %s |", s.Name, s.Description, subjectsCell(s), keptCell(s), list(s.Publishers), list(s.Readers))
	}
	line("")
	line("## Channels")
	line("")
	line("What is published under which subjects of those streams. The fields of each type are on [the events page](events.md).")
	line("")
	line("| channel | subject | stream | what it is | carries | sent by |")
	line("|---|---|---|---|---|---|")
	for _, c := range topology.Channels {
		carries := c.Other
		if len(c.Types) > 0 {
			carries = "`" + strings.Join(c.Types, "`, `") + "`"
		}
		senders := list(c.Senders)
		if len(c.Senders) == 0 {
			senders = "the broker"
		}
		line("| %s | `%s` | %s | %s | %s | %s |", c.Name, c.Address, c.Stream, c.Description, carries, senders)
	}
	line("")
	line("## Consumer groups")
	line("")
	line("| group | service | reads | partitions | one active member | begins | what it does | answers |")
	line("|---|---|---|---|---|---|---|---|")
	for _, g := range topology.Groups {
		filter := "everything"
		if g.Filter != "" {
			filter = "`" + g.Filter + "`"
		}
		begins := "at the beginning"
		if g.FromNow {
			begins = "when it is made"
		}
		line("| %s | %s | %s, %s | %d | %s | %s | %s | `%s` |", g.Name, g.Service, g.Stream, filter, g.Partitions, yes(g.Single), begins, g.Description, strings.Join(g.Handles, "`, `"))
	}
	line("")
	line("A group's durable consumers are named `<group>-<partition>`. `{p}` stands for the partition.")
	line("")
	line("## Buckets")
	line("")
	line("| bucket | kind | what it is | kept | written by | read by |")
	line("|---|---|---|---|---|---|")
	for _, k := range topology.Buckets {
		kind := "key-value"
		if k.Objects {
			kind = "objects"
		}
		kept := "for ever"
		if k.TTL > 0 {
			kept = k.TTL.String()
		}
		line("| %s | %s | %s | %s | %s | %s |", k.Name, kind, k.Description, kept, list(k.Publishers), list(k.Readers))
	}
	return b.String()
}

func subjectsCell(s events.Stream) string {
	var cells []string
	for _, subject := range s.Subjects {
		cells = append(cells, "`"+subject+"`")
	}
	if s.TransformTo != "" {
		cells = append(cells, "stored as `"+s.TransformTo+"`")
	}
	for _, source := range s.Sources {
		cell := "copies " + source.Stream
		if source.Filter != "" {
			cell += " (`" + source.Filter + "`)"
		}
		cells = append(cells, cell)
	}
	return strings.Join(cells, ", ")
}

func keptCell(s events.Stream) string {
	var limits []string
	if s.MaxAge > 0 {
		limits = append(limits, fmt.Sprintf("%d days", s.MaxAge/(24*time.Hour)))
	}
	if s.MaxBytes > 0 {
		limits = append(limits, fmt.Sprintf("%d MiB", s.MaxBytes>>20))
	}
	if s.MaxMsgs > 0 {
		limits = append(limits, fmt.Sprintf("%d messages", s.MaxMsgs))
	}
	if s.MaxMsgsPerSubject > 0 {
		limits = append(limits, fmt.Sprintf("%d a subject", s.MaxMsgsPerSubject))
	}
	if len(limits) == 0 {
		return "for ever"
	}
	if s.DiscardNew {
		limits = append(limits, "then refuses")
	}
	return strings.Join(limits, ", ")
}

func list(names []string) string {
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ", ")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "for each partition"
}
