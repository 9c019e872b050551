package keda_test

import (
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// world is a peer that is not in our namespace: another namespace by name, or an address.
type world struct{ namespace string }

// allows reports whether the policies let a connection through: out of from (nil: it is not ours), into to (nil: it is not ours) at a port.
func (r *rendered) allows(t *testing.T, from, to *pods, other world, port int32) bool {
	t.Helper()
	return (from == nil || r.side(t, networkingv1.PolicyTypeEgress, from, to, other, to, port)) &&
		(to == nil || r.side(t, networkingv1.PolicyTypeIngress, to, from, other, to, port))
}

// side asks the policies of one end. peer is the other end; server has the port.
func (r *rendered) side(t *testing.T, direction networkingv1.PolicyType, of, peer *pods, other world, server *pods, port int32) bool {
	t.Helper()
	restricted := false
	for _, policy := range all[*networkingv1.NetworkPolicy](r) {
		if !slices.Contains(policy.Spec.PolicyTypes, direction) || !selects(t, &policy.Spec.PodSelector, of) {
			continue
		}
		restricted = true
		if direction == networkingv1.PolicyTypeEgress {
			for _, rule := range policy.Spec.Egress {
				if peers(t, rule.To, peer, other) && ports(rule.Ports, server, port) {
					return true
				}
			}
			continue
		}
		for _, rule := range policy.Spec.Ingress {
			if peers(t, rule.From, peer, other) && ports(rule.Ports, server, port) {
				return true
			}
		}
	}
	return !restricted
}

func selects(t *testing.T, selector *metav1.LabelSelector, p *pods) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels.Set(p.template.Labels))
}

func peers(t *testing.T, list []networkingv1.NetworkPolicyPeer, peer *pods, other world) bool {
	t.Helper()
	for _, p := range list {
		switch {
		case p.IPBlock != nil:
			if peer == nil && other.namespace == "" {
				return true
			}
		case p.NamespaceSelector != nil:
			if peer == nil && p.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] == other.namespace {
				return true
			}
		case peer != nil && selects(t, p.PodSelector, peer):
			return true
		}
	}
	return len(list) == 0
}

func ports(list []networkingv1.NetworkPolicyPort, server *pods, port int32) bool {
	for _, p := range list {
		if p.Port.Type == intstr.Int && p.Port.IntVal == port {
			return true
		}
		if server != nil && p.Port.Type == intstr.String {
			if n, ok := portOf(&server.template.Spec.Containers[0], *p.Port); ok && n == port {
				return true
			}
		}
	}
	return len(list) == 0
}

func (r *rendered) owned(t *testing.T, owner string) *pods {
	t.Helper()
	for _, p := range r.pods() {
		if p.owner == owner {
			return &p
		}
	}
	t.Fatalf("no %s", owner)
	return nil
}

// Who must reach whom does; who need not does not.
func TestPoliciesLetThroughWhatMustAndNothingElse(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rendered) {
		broker := r.owned(t, "StatefulSet/nats")
		services := []string{"order-api", "order-worker", "inventory-api", "inventory-worker", "notify-api", "notify-worker", "analytics"}
		for _, name := range services {
			p := r.owned(t, "Deployment/"+name)
			port := p.template.Spec.Containers[0].Ports[0].ContainerPort
			check := func(want bool, from, to *pods, other world, port int32, what string) {
				t.Helper()
				if got := r.allows(t, from, to, other, port); got != want {
					t.Errorf("%s %s: %v, want %v", name, what, got, want)
				}
			}
			check(true, p, broker, world{}, 4222, "to the broker")
			check(false, p, broker, world{}, 8222, "to the broker's monitoring")
			check(false, p, broker, world{}, 6222, "to the broker's routes")
			check(true, nil, p, world{"monitoring"}, port, "is scraped")
			check(false, nil, p, world{"default"}, port, "from another namespace")
			check(true, p, nil, world{"monitoring"}, 4318, "sends traces")
			check(true, p, nil, world{"kube-system"}, 53, "looks names up")
			for _, other := range services {
				q := r.owned(t, "Deployment/"+other)
				check(false, p, q, world{}, q.template.Spec.Containers[0].Ports[0].ContainerPort, "calls "+other)
			}
			outward := name == "order-worker" || name == "notify-worker"
			if r.names["Deployment/tidemark"] == nil {
				check(outward, p, nil, world{}, 443, "to the internet")
				check(false, p, nil, world{}, 25, "to the internet, port 25")
				check(true, nil, p, world{"ingress-nginx"}, port, "from the ingress controller")
				continue
			}
			front := r.owned(t, "Deployment/tidemark")
			check(name == "order-worker", p, front, world{}, 8090, "asks the payment gateway")
			check(name == "notify-worker", p, front, world{}, 1025, "sends mail")
			check(true, front, p, world{}, port, "is asked by the front")
			check(false, p, nil, world{}, 443, "to the internet")
		}
		if !r.allows(t, broker, broker, world{}, 6222) {
			t.Error("the broker's servers can't reach each other")
		}
		if !r.allows(t, nil, broker, world{"keda"}, 8222) || r.allows(t, nil, broker, world{"keda"}, 4222) {
			t.Error("KEDA reads the broker's monitoring, and nothing else")
		}
		if r.allows(t, nil, broker, world{"default"}, 4222) {
			t.Error("the broker is open to another namespace")
		}
		if job := r.owned(t, "Job/topology-apply"); !r.allows(t, job, broker, world{}, 4222) {
			t.Error("the job can't reach the broker")
		}
	})
}
