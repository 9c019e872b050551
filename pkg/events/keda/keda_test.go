package keda_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/keda"
)

var update = flag.Bool("update", false, "write the manifests anew")

// committed is what deploy/k8s applies.
var committed = filepath.Join("..", "..", "..", "deploy", "k8s", "base", "scaledobjects.yaml")

func manifests(t *testing.T, partitions int, c keda.Config) []byte {
	t.Helper()
	topology := events.DefaultTopology(partitions)
	out, err := keda.Manifests(&topology, c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestManifestsAreTheCommittedOnes(t *testing.T) {
	t.Parallel()
	got := manifests(t, 0, keda.Config{})
	if *update {
		if err := os.WriteFile(committed, got, 0o644); err != nil { //nolint:gosec // it is for everybody
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the topology gives: go test ./pkg/events/keda -update", committed)
	}
	if again := manifests(t, 0, keda.Config{}); !bytes.Equal(got, again) {
		t.Error("twice the same question, two answers")
	}
}

// Every consumer of every group is a trigger, once, and a term of its manifest's formula.
func TestEveryPartitionOfEveryGroupCounts(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 8, 32} {
		topology := events.DefaultTopology(partitions)
		var want []string
		for _, g := range topology.Groups {
			for p := range g.Partitions {
				want = append(want, g.Stream+"/"+g.Consumer(p))
			}
		}
		var got []string
		for _, doc := range strings.Split(string(manifests(t, partitions, keda.Config{})), "\n---\n")[1:] {
			var names []string
			for _, m := range regexp.MustCompile(`(?s)name: (\w+)\n      metadata:.*?stream: (\w+)\n        consumer: (\S+)`).FindAllStringSubmatch(doc, -1) {
				names = append(names, m[1])
				got = append(got, m[2]+"/"+m[3])
			}
			formula := regexp.MustCompile(`formula: "(.*)"`).FindStringSubmatch(doc)
			if formula == nil || formula[1] != strings.Join(names, " + ") {
				t.Errorf("%d partitions: the formula is %q, the triggers are %q", partitions, formula, names)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%d partitions: triggers for %q, want %q", partitions, got, want)
		}
	}
}

func TestWorkersScaleAsTheirGroupsCan(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(12)
	var got []string
	for _, w := range keda.Workers(&topology) {
		got = append(got, w.Name+" "+strconv.Itoa(w.Min)+".."+strconv.Itoa(w.Max))
	}
	want := []string{
		"inventory-worker 0..2", // one lock a warehouse: one works, one stands by
		"order-worker 0..12", "notify-worker 0..12",
		"analytics 1..2", // its clock is never at rest
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestValidateReportsAll(t *testing.T) {
	t.Parallel()
	err := keda.Config{Monitoring: "http://nats", Account: "a b", PerWorker: -1, Poll: time.Millisecond, Cooldown: -time.Second, Steady: 2 * time.Hour}.Validate()
	if err == nil {
		t.Fatal("nothing is wrong with it")
	}
	for _, field := range []string{"Monitoring", "Account", "PerWorker", "Poll", "Cooldown", "Steady"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not in %q", field, err)
		}
	}
	if err := (keda.Config{}).Validate(); err != nil {
		t.Error(err)
	}
}
