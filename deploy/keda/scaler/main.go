// Command scaler is KEDA's own scaler of JetStream consumers, without a cluster around it: it reads ScaledObjects, asks the broker as KEDA does, and prints what KEDA would make of it. The tests
// that let an autoscaler run are told by it when something waits; .ci/tools builds it once, since KEDA's package of scalers needs more than 2,000 others.
//
//	scaler FILE [HOST:PORT]
//
// HOST:PORT is asked instead of the monitoring endpoint in the manifests. For each line on stdin it prints a line for each ScaledObject, and an empty one.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
	"github.com/kedacore/keda/v2/pkg/scaling/cache"
	"github.com/kedacore/keda/v2/pkg/scaling/modifiers"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/metrics/pkg/apis/external_metrics"
	"sigs.k8s.io/yaml"
)

const trigger = "nats-jetstream"

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "scaler FILE [HOST:PORT]")
		os.Exit(2)
	}
	if err := run(os.Args[1], append(os.Args, "")[2], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scaler:", err)
		os.Exit(1)
	}
}

func run(file, endpoint string, in io.Reader, out io.Writer) error {
	manifests, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	objects, err := read(manifests)
	if err != nil {
		return err
	}
	var all []*scaled
	for i := range objects {
		s, err := newScaled(&objects[i], endpoint)
		if err != nil {
			return fmt.Errorf("%s: %w", objects[i].Name, err)
		}
		all = append(all, s)
	}
	encoder := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		for _, s := range all {
			if err := encoder.Encode(s.look(context.Background())); err != nil {
				return err
			}
		}
		fmt.Fprintln(out)
	}
	return nil
}

// read decodes strictly: a field that KEDA does not know is an error, as it is where the cluster checks manifests.
func read(manifests []byte) (objects []v1alpha1.ScaledObject, err error) {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifests)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		var object v1alpha1.ScaledObject
		if err := yaml.UnmarshalStrict(document, &object); err != nil {
			return nil, err
		}
		if object.Kind == "ScaledObject" {
			objects = append(objects, object)
		}
	}
}

// scaled is one ScaledObject with a scaler for each trigger, as KEDA's scale handler has it.
type scaled struct {
	object  *v1alpha1.ScaledObject
	scalers []scalers.Scaler
	names   []string          // of the triggers
	metrics []string          // of the scalers
	pairs   map[string]string // metric → trigger
	cache   *cache.ScalersCache
}

func newScaled(object *v1alpha1.ScaledObject, endpoint string) (*scaled, error) {
	s := &scaled{object: object, pairs: make(map[string]string)}
	if err := errors.Join(v1alpha1.ValidateTriggers(object.Spec.Triggers), v1alpha1.CheckReplicaCountBoundsAreValid(object), v1alpha1.CheckFallbackValid(object)); err != nil {
		return nil, err
	}
	formula, err := v1alpha1.ValidateAndCompileScalingModifiers(object)
	if err != nil {
		return nil, err
	}
	s.cache = &cache.ScalersCache{ScaledObject: object, CompiledFormula: formula}
	for i, t := range object.Spec.Triggers {
		if t.Type != trigger {
			return nil, fmt.Errorf("trigger %s: is %q, must be %s", t.Name, t.Type, trigger)
		}
		if endpoint != "" {
			t.Metadata["natsServerMonitoringEndpoint"] = endpoint
		}
		scaler, err := scalers.NewNATSJetStreamScaler(&scalersconfig.ScalerConfig{
			ScalableObjectName: object.Name, ScalableObjectNamespace: object.Namespace, ScalableObjectType: "ScaledObject",
			TriggerName: t.Name, TriggerType: t.Type, TriggerMetadata: t.Metadata, TriggerIndex: i, MetricType: t.MetricType, GlobalHTTPTimeout: 3 * time.Second,
		})
		if err != nil {
			return nil, fmt.Errorf("trigger %s: %w", t.Name, err)
		}
		metric := scaler.GetMetricSpecForScaling(context.Background())[0].External.Metric.Name
		pair, err := modifiers.GetPairTriggerAndMetric(object, metric, t.Name)
		if err != nil {
			return nil, fmt.Errorf("trigger %s: %w", t.Name, err)
		}
		for k, v := range pair {
			s.pairs[k] = v
		}
		s.scalers, s.names, s.metrics = append(s.scalers, scaler), append(s.names, t.Name), append(s.metrics, metric)
	}
	return s, nil
}

// Answer is what KEDA makes of a ScaledObject at one moment.
type Answer struct {
	Name     string             `json:"name"`
	Target   string             `json:"target"`   // the Deployment
	Triggers map[string]float64 `json:"triggers"` // each one's lag
	Active   bool               `json:"active"`   // false: down to the smallest number
	Lag      float64            `json:"lag"`      // what the formula gives
	Replicas int                `json:"replicas"` // what the autoscaler would come to, without its patience
	Error    string             `json:"error,omitempty"`
}

func (s *scaled) look(ctx context.Context) Answer {
	a := Answer{Name: s.object.Name, Target: s.object.Spec.ScaleTargetRef.Name, Triggers: make(map[string]float64)}
	var values []external_metrics.ExternalMetricValue
	for i, scaler := range s.scalers {
		metrics, _, err := scaler.GetMetricsAndActivity(ctx, s.metrics[i])
		if err != nil {
			a.Error = fmt.Sprintf("trigger %s: %v", s.names[i], err)
			return a
		}
		a.Triggers[s.names[i]] = metrics[0].Value.AsApproximateFloat64()
		values = append(values, metrics...)
	}
	for _, composite := range modifiers.HandleScalingModifiers(s.object, values, s.pairs, false, nil, s.cache, logr.Discard()) {
		if composite.MetricName == v1alpha1.CompositeMetricName {
			a.Lag = composite.Value.AsApproximateFloat64()
		}
	}
	var target, activation float64
	if _, err := fmt.Sscan(s.object.Spec.Advanced.ScalingModifiers.Target+" "+s.object.Spec.Advanced.ScalingModifiers.ActivationTarget, &target, &activation); err != nil {
		a.Error = fmt.Sprintf("target: %v", err)
		return a
	}
	a.Active = a.Lag > activation
	if least := s.object.Spec.MinReplicaCount; least != nil {
		a.Replicas = int(*least)
	}
	if a.Active {
		a.Replicas = min(max(int(math.Ceil(a.Lag/target)), a.Replicas, 1), int(s.object.GetHPAMaxReplicas()))
	}
	return a
}
