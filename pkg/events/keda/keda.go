// Package keda writes the autoscaler's manifests from the topology: one ScaledObject of KEDA for each worker, from none to as many as the worker's groups have partitions, by what
// waits for them.
//
// KEDA's NATS scaler reads one consumer: what is not delivered, and what is not acknowledged. A group is one consumer a partition, and where a manifest has several triggers,
// the autoscaler takes the largest. So each manifest names its triggers and sums them in a formula: two workers are called for where eight partitions have a little each, as well as where one
// has all of it, and one event in any partition wakes the first.
//
// An order's deadline is such an event: the broker publishes it when it is due, so it wakes a worker that had left.
package keda

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// Config says where the broker is asked, and how eagerly is scaled. Zero fields take their defaults.
type Config struct {
	Namespace  string        // of the manifests; empty: whoever applies them says
	Monitoring string        // the broker's monitoring address as KEDA reaches it, host:port; default nats.tidemark.svc:8222
	Account    string        // of the streams; default "$G", the account of a broker without accounts
	PerWorker  int           // events that wait for which one worker is called; default 100
	Poll       time.Duration // between two looks while nothing runs; whole seconds; default 5 s
	Cooldown   time.Duration // after the last event, until none runs; whole seconds; default 5 min
	Steady     time.Duration // for so long the need must be smaller before one worker is taken away; whole seconds; default 5 min
}

// The defaults of [Config].
const (
	DefaultMonitoring = "nats.tidemark.svc:8222"
	DefaultAccount    = "$G"
	DefaultPerWorker  = 100
	DefaultPoll       = 5 * time.Second
	DefaultCooldown   = 5 * time.Minute
	DefaultSteady     = 5 * time.Minute
)

func (c Config) withDefaults() Config {
	c.Monitoring = cmp.Or(c.Monitoring, DefaultMonitoring)
	c.Account = cmp.Or(c.Account, DefaultAccount)
	c.PerWorker = cmp.Or(c.PerWorker, DefaultPerWorker)
	c.Poll = cmp.Or(c.Poll, DefaultPoll)
	c.Cooldown = cmp.Or(c.Cooldown, DefaultCooldown)
	c.Steady = cmp.Or(c.Steady, DefaultSteady)
	return c
}

// Validate reports every rule that the configuration breaks, joined.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	wrong := func(field, rule string, is any) {
		errs = append(errs, fmt.Errorf("keda: %s: must %s, is %v", field, rule, is))
	}
	if host, port, found := strings.Cut(c.Monitoring, ":"); !found || host == "" || port == "" || strings.ContainsAny(c.Monitoring, "/ \"\n") {
		wrong("Monitoring", "be host:port", strconv.Quote(c.Monitoring))
	}
	if strings.ContainsAny(c.Account+c.Namespace, " \"\n") {
		wrong("Account, Namespace", "have no space and no quote", strconv.Quote(c.Account+" "+c.Namespace))
	}
	if c.PerWorker < 1 {
		wrong("PerWorker", "be 1 or more", c.PerWorker)
	}
	for field, d := range map[string]time.Duration{"Poll": c.Poll, "Cooldown": c.Cooldown, "Steady": c.Steady} {
		if d < time.Second || d%time.Second != 0 {
			wrong(field, "be whole seconds, at least one", d)
		}
	}
	if c.Steady > time.Hour {
		wrong("Steady", "be at most an hour, which is Kubernetes' limit", c.Steady)
	}
	return errors.Join(errs...)
}

// Worker is what scales together: the groups of one service, in one program.
type Worker struct {
	Name    string // of the Deployment and of the ScaledObject
	Service string
	Groups  []events.Group
	Min     int
	Max     int
}

// standby is the second member of a group with one active member.
const standby = 2

// Workers derives from the topology what scales, in its order.
func Workers(t *events.Topology) []Worker {
	var out []Worker
	for _, g := range t.Groups {
		i := slices.IndexFunc(out, func(w Worker) bool { return w.Service == g.Service })
		if i < 0 {
			out = append(out, Worker{Name: g.Service + "-worker", Service: g.Service})
			i = len(out) - 1
		}
		w := &out[i]
		w.Groups = append(w.Groups, g)
		switch {
		case g.Single:
			w.Max = max(w.Max, standby)
		default:
			w.Max = max(w.Max, g.Partitions)
		}
		if restless(t, g) { // a heartbeat waits for it each second, so it is never at rest; and it is the API of its results
			w.Min, w.Name = 1, g.Service
		}
	}
	return out
}

// restless reports whether a group reads heartbeats.
func restless(t *events.Topology, g events.Group) bool {
	s, _ := t.Stream(g.Stream)
	return slices.ContainsFunc(s.Sources, func(source events.Source) bool { return source.Filter == events.SubjectTick })
}

// Manifests are the ScaledObjects of all workers, as YAML documents. The same topology and configuration give the same bytes.
func Manifests(t *events.Topology, c Config) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	var b strings.Builder
	b.WriteString("# Written by `tidemark topology keda` from the topology: change that, not this.\n")
	for _, w := range Workers(t) {
		c.scaledObject(&b, &w)
	}
	return []byte(b.String()), nil
}

func (c Config) scaledObject(b *strings.Builder, w *Worker) {
	line := func(indent int, format string, args ...any) {
		b.WriteString(strings.Repeat("  ", indent))
		fmt.Fprintf(b, format+"\n", args...)
	}
	line(0, "---")
	line(0, "apiVersion: keda.sh/v1alpha1")
	line(0, "kind: ScaledObject")
	line(0, "metadata:")
	line(1, "name: %s", w.Name)
	if c.Namespace != "" {
		line(1, "namespace: %s", c.Namespace)
	}
	line(1, "labels:")
	line(2, "app.kubernetes.io/name: %s", w.Service)
	line(2, "app.kubernetes.io/component: worker")
	line(2, "app.kubernetes.io/part-of: tidemark")
	line(0, "spec:")
	line(1, "scaleTargetRef:")
	line(2, "apiVersion: apps/v1")
	line(2, "kind: Deployment")
	line(2, "name: %s", w.Name)
	line(1, "minReplicaCount: %d", w.Min)
	line(1, "maxReplicaCount: %d", w.Max)
	line(1, "pollingInterval: %d", seconds(c.Poll))
	line(1, "cooldownPeriod: %d # a letter that is tried again within it finds its worker", seconds(c.Cooldown))
	line(1, "advanced:")
	line(2, "scalingModifiers:")
	line(3, "formula: %q", strings.Join(triggers(w), " + "))
	line(3, "target: %q", strconv.Itoa(c.PerWorker))
	line(3, "activationTarget: \"0\" # more than none: one event wakes a worker")
	line(3, "metricType: AverageValue")
	line(2, "horizontalPodAutoscalerConfig:")
	line(3, "behavior:")
	line(4, "scaleUp:")
	line(5, "stabilizationWindowSeconds: 0")
	line(4, "scaleDown: # one at a time, since each change moves partitions")
	line(5, "stabilizationWindowSeconds: %d", seconds(c.Steady))
	line(5, "policies:")
	line(6, "- type: Pods")
	line(7, "value: 1")
	line(7, "periodSeconds: 60")
	line(1, "triggers:")
	for _, g := range w.Groups {
		for p := range g.Partitions {
			line(2, "- type: nats-jetstream")
			line(3, "name: %s", trigger(g, p))
			line(3, "metadata:")
			line(4, "natsServerMonitoringEndpoint: %q", c.Monitoring)
			line(4, "account: %q", c.Account)
			line(4, "stream: %s", g.Stream)
			line(4, "consumer: %s", g.Consumer(p))
		}
	}
}

// trigger is a partition's name in the formula, where a dash would be a minus.
func trigger(g events.Group, p int) string {
	return strings.ReplaceAll(g.Consumer(p), "-", "_")
}

func triggers(w *Worker) (names []string) {
	for _, g := range w.Groups {
		for p := range g.Partitions {
			names = append(names, trigger(g, p))
		}
	}
	return names
}

func seconds(d time.Duration) int { return int(d / time.Second) }
