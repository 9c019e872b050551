package keda_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var overlays = []string{"demo", "production"}

// keys stand for what is made on the machine that deploys and is in no repository.
var keys = map[string]string{
	"secrets/order.nk": "SU-order", "secrets/inventory.nk": "SU-inventory", "secrets/notify.nk": "SU-notify", "secrets/analytics.nk": "SU-analytics",
	"secrets/operator.nk": "SU-operator", "secrets/users.conf": "authorization {}\n", "secrets/jwks.json": `{"keys": []}`,
	"overlays/production/route.env": "NATS_ROUTE_PASSWORD=route-secret\n",
}

// rendered is what kustomize makes of an overlay, decoded into the types of Kubernetes and KEDA.
type rendered struct {
	objects []metav1.Object
	names   map[string]metav1.Object // "Kind/name"
}

func kinds() map[string]func() metav1.Object {
	return map[string]func() metav1.Object{
		"v1/Namespace":                           func() metav1.Object { return new(corev1.Namespace) },
		"v1/Service":                             func() metav1.Object { return new(corev1.Service) },
		"v1/ConfigMap":                           func() metav1.Object { return new(corev1.ConfigMap) },
		"v1/Secret":                              func() metav1.Object { return new(corev1.Secret) },
		"apps/v1/Deployment":                     func() metav1.Object { return new(appsv1.Deployment) },
		"apps/v1/StatefulSet":                    func() metav1.Object { return new(appsv1.StatefulSet) },
		"batch/v1/Job":                           func() metav1.Object { return new(batchv1.Job) },
		"policy/v1/PodDisruptionBudget":          func() metav1.Object { return new(policyv1.PodDisruptionBudget) },
		"networking.k8s.io/v1/NetworkPolicy":     func() metav1.Object { return new(networkingv1.NetworkPolicy) },
		"networking.k8s.io/v1/Ingress":           func() metav1.Object { return new(networkingv1.Ingress) },
		"keda.sh/v1alpha1/ScaledObject":          func() metav1.Object { return new(v1alpha1.ScaledObject) },
		"keda.sh/v1alpha1/TriggerAuthentication": func() metav1.Object { return new(v1alpha1.TriggerAuthentication) },
	}
}

// onDisk are deploy/k8s and deploy/nats with keys, as `kubectl apply -k` sees them.
func onDisk(t *testing.T) filesys.FileSystem {
	t.Helper()
	mem := filesys.MakeFsInMemory()
	for _, dir := range []string{"k8s", "nats"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel("..", path)
			if err != nil {
				return err
			}
			return mem.WriteFile("/deploy/"+rel, data)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range keys {
		if err := mem.WriteFile("/deploy/k8s/"+name, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	return mem
}

// render builds an overlay as kubectl does and decodes it strictly: a field that no type has is an error.
func render(t *testing.T, overlay string) *rendered {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(onDisk(t), "/deploy/k8s/overlays/"+overlay)
	if err != nil {
		t.Fatal(err)
	}
	r := &rendered{names: make(map[string]metav1.Object)}
	for _, resource := range built.Resources() {
		raw, err := resource.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, kind, err := decode(raw)
		if err != nil {
			t.Errorf("%s: %v\n%s", resource.CurId(), err, raw)
			continue
		}
		key := kind + "/" + object.GetName()
		if r.names[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		if object.GetNamespace() != "tidemark" && kind != "Namespace" {
			t.Errorf("%s is in namespace %q", key, object.GetNamespace())
		}
		r.names[key] = object
		r.objects = append(r.objects, object)
	}
	return r
}

func decode(raw []byte) (metav1.Object, string, error) {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(raw, &meta); err != nil {
		return nil, "", err
	}
	make, known := kinds()[meta.APIVersion+"/"+meta.Kind]
	if !known {
		return nil, "", fmt.Errorf("%s %s: not one of the kinds that are meant to be here", meta.APIVersion, meta.Kind)
	}
	object := make()
	return object, meta.Kind, yaml.UnmarshalStrict(raw, object)
}

func TestDecodingIsStrict(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{
		"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {prots: []}}",
		"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {template: {spec: {containers: [{name: a, readynessProbe: {}}]}}}}",
		"{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: a}, spec: {minReplicas: 0}}",
		"{apiVersion: v1, kind: Sevrice, metadata: {name: a}}",
	} {
		if _, _, err := decode([]byte(wrong)); err == nil {
			t.Errorf("taken: %s", wrong)
		}
	}
}

// pods is a pod template and what has it.
type pods struct {
	owner    string // Kind/name
	selector *metav1.LabelSelector
	template *corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
}

func (r *rendered) pods() (out []pods) {
	for _, object := range r.objects {
		switch o := object.(type) {
		case *appsv1.Deployment:
			out = append(out, pods{"Deployment/" + o.Name, o.Spec.Selector, &o.Spec.Template, nil})
		case *appsv1.StatefulSet:
			out = append(out, pods{"StatefulSet/" + o.Name, o.Spec.Selector, &o.Spec.Template, o.Spec.VolumeClaimTemplates})
		case *batchv1.Job:
			out = append(out, pods{"Job/" + o.Name, nil, &o.Spec.Template, nil})
		}
	}
	return out
}

// matching are the pod templates that a selector finds.
func (r *rendered) matching(t *testing.T, selector *metav1.LabelSelector) (out []pods) {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.pods() {
		if s.Matches(labels.Set(p.template.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

func each(t *testing.T, check func(*testing.T, *rendered)) {
	t.Helper()
	for _, overlay := range overlays {
		t.Run(overlay, func(t *testing.T) {
			t.Parallel()
			check(t, render(t, overlay))
		})
	}
}

func all[T metav1.Object](r *rendered) (out []T) {
	for _, object := range r.objects {
		if o, ok := object.(T); ok {
			out = append(out, o)
		}
	}
	return out
}

func TestOverlaysHaveWhatTheyShould(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rendered) {
		var got []string
		for key := range r.names {
			if !strings.HasPrefix(key, "ConfigMap/") && !strings.HasPrefix(key, "Secret/") {
				got = append(got, key)
			}
		}
		for _, want := range []string{
			"Namespace/tidemark", "StatefulSet/nats", "Service/nats", "Service/nats-headless", "Job/topology-apply",
			"Deployment/order-api", "Deployment/order-worker", "Deployment/inventory-api", "Deployment/inventory-worker", "Deployment/notify-api", "Deployment/notify-worker", "Deployment/analytics",
			"ScaledObject/order-worker", "ScaledObject/inventory-worker", "ScaledObject/notify-worker", "ScaledObject/analytics", "NetworkPolicy/nothing",
		} {
			if r.names[want] == nil {
				t.Errorf("no %s among %q", want, got)
			}
		}
	})
}

// No secret is in the repository: what stands beside the manifests is ignored.
func TestNoKeyIsCommitted(t *testing.T) {
	t.Parallel()
	for name := range keys {
		path := filepath.Join("..", "k8s", name)
		ignored, err := os.ReadFile(filepath.Join(filepath.Dir(path), ".gitignore"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(bytes.TrimSpace(ignored)), "\n")
		if lines[0] != "*" && lines[0] != filepath.Base(path) {
			t.Errorf("%s is not ignored: %q", path, lines)
		}
	}
	if _, err := os.Stat(filepath.Join("..", "k8s", "secrets", "order.nk")); err == nil {
		t.Log("keys lie there; they are ignored")
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// The manifests of the two overlays that are generated are those of the program.
func TestScaledObjectsAreThePrograms(t *testing.T) {
	t.Parallel()
	printed := program(t, "tidemark", "topology", "keda", "--namespace", "tidemark")
	want := make(map[string]*v1alpha1.ScaledObject)
	for _, document := range strings.Split(printed, "\n---\n")[1:] {
		object, _, err := decode([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		want[object.GetName()] = object.(*v1alpha1.ScaledObject)
	}
	each(t, func(t *testing.T, r *rendered) {
		got := all[*v1alpha1.ScaledObject](r)
		if len(got) != len(want) {
			t.Errorf("%d ScaledObjects, the program prints %d", len(got), len(want))
		}
		for _, o := range got {
			w := want[o.Name].DeepCopy()
			if o.Name == "analytics" { // production has a standby
				w.Spec.MinReplicaCount = o.Spec.MinReplicaCount
			}
			if !reflect.DeepEqual(o.Spec, w.Spec) {
				t.Errorf("%s is not what the program prints:\n%+v\n%+v", o.Name, o.Spec, w.Spec)
			}
			target := o.Spec.ScaleTargetRef
			deployment, _ := r.names[target.Kind+"/"+target.Name].(*appsv1.Deployment)
			if deployment == nil {
				t.Fatalf("%s scales %s/%s, which is not there", o.Name, target.Kind, target.Name)
			}
			if deployment.Spec.Replicas != nil {
				t.Errorf("%s has a number of replicas, which each apply would put back", deployment.Name)
			}
		}
	})
}
