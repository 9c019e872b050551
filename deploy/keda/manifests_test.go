package keda_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Every pod runs as nobody, on a file system that it can't write to, with limits and probes.
func TestPodsAreHardened(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rendered) {
		if n := len(r.pods()); n < 9 {
			t.Fatalf("%d pod templates", n)
		}
		for _, p := range r.pods() {
			for _, fault := range faults(p) {
				t.Errorf("%s: %s", p.owner, fault)
			}
		}
	})
}

func TestFaultsAreFound(t *testing.T) {
	t.Parallel()
	p := pods{owner: "Deployment/bare", template: &corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		HostNetwork: true, Containers: []corev1.Container{{Name: "main", Image: "nats"}},
	}}}
	found := strings.Join(faults(p), ", ")
	for _, want := range []string{"root", "seccomp", "token", "capabilities", "privilege", "file system", "limit", "request", "probe", "tag", "host"} {
		if !strings.Contains(found, want) {
			t.Errorf("a bare pod is not told that it lacks %s: %s", want, found)
		}
	}
}

func faults(p pods) (out []string) {
	add := func(bad bool, what string) {
		if bad {
			out = append(out, what)
		}
	}
	spec := p.template.Spec
	security := spec.SecurityContext
	if security == nil {
		security = new(corev1.PodSecurityContext)
	}
	add(security.RunAsNonRoot == nil || !*security.RunAsNonRoot || security.RunAsUser == nil || *security.RunAsUser == 0, "may be root")
	add(security.SeccompProfile == nil || security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault, "no seccomp profile")
	add(spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken, "has a token of the cluster's API")
	add(spec.HostNetwork || spec.HostPID || spec.HostIPC, "shares with the host")
	for _, c := range append(slices.Clone(spec.InitContainers), spec.Containers...) {
		s := c.SecurityContext
		if s == nil {
			s = new(corev1.SecurityContext)
		}
		add(s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0, c.Name+": capabilities are not dropped")
		add(s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation, c.Name+": privilege escalation")
		add(s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem, c.Name+": can write to its file system")
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			_, requested := c.Resources.Requests[name]
			_, limited := c.Resources.Limits[name]
			add(!requested, c.Name+": no request of "+string(name))
			add(!limited, c.Name+": no limit of "+string(name))
		}
		image, tag, _ := strings.Cut(c.Image, ":")
		add(tag == "" || tag == "latest" || image == "", c.Name+": image without a tag: "+c.Image)
		if strings.HasPrefix(p.owner, "Job/") {
			continue
		}
		for what, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
			if probe == nil || probe.HTTPGet == nil {
				out = append(out, c.Name+": no "+what+" probe")
				continue
			}
			_, found := portOf(&c, probe.HTTPGet.Port)
			add(!found, c.Name+": the "+what+" probe asks a port that the container does not have: "+probe.HTTPGet.Port.String())
		}
	}
	return out
}

func portOf(c *corev1.Container, port intstr.IntOrString) (int32, bool) {
	for _, p := range c.Ports {
		if port.Type == intstr.String && p.Name == port.StrVal || port.Type == intstr.Int && p.ContainerPort == port.IntVal {
			return p.ContainerPort, true
		}
	}
	return 0, false
}

// What a pod refers to is there, with the keys that it wants, and what it mounts it has.
func TestReferencesLeadSomewhere(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rendered) {
		for _, p := range r.pods() {
			for _, ref := range references(p) {
				if r.names[ref] == nil {
					t.Errorf("%s refers to %s, which is not there", p.owner, ref)
				}
			}
			volumes := make(map[string]bool)
			for _, v := range p.template.Spec.Volumes {
				volumes[v.Name] = true
			}
			for _, claim := range p.claims {
				volumes[claim.Name] = true
			}
			for _, c := range p.template.Spec.Containers {
				for _, m := range c.VolumeMounts {
					if !volumes[m.Name] {
						t.Errorf("%s mounts %s, which it does not have", p.owner, m.Name)
					}
				}
				for _, e := range c.Env {
					if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil {
						continue
					}
					secret, _ := r.names["Secret/"+e.ValueFrom.SecretKeyRef.Name].(*corev1.Secret)
					if secret == nil || secret.Data[e.ValueFrom.SecretKeyRef.Key] == nil {
						t.Errorf("%s wants %s of %s", p.owner, e.ValueFrom.SecretKeyRef.Key, e.ValueFrom.SecretKeyRef.Name)
					}
				}
			}
		}
	})
}

func references(p pods) (out []string) {
	for _, v := range p.template.Spec.Volumes {
		if v.Secret != nil {
			out = append(out, "Secret/"+v.Secret.SecretName)
		}
		if v.ConfigMap != nil {
			out = append(out, "ConfigMap/"+v.ConfigMap.Name)
		}
		if v.Projected != nil {
			for _, source := range v.Projected.Sources {
				if source.ConfigMap != nil {
					out = append(out, "ConfigMap/"+source.ConfigMap.Name)
				}
				if source.Secret != nil {
					out = append(out, "Secret/"+source.Secret.Name)
				}
			}
		}
	}
	for _, c := range p.template.Spec.Containers {
		for _, from := range c.EnvFrom {
			if from.ConfigMapRef != nil {
				out = append(out, "ConfigMap/"+from.ConfigMapRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				out = append(out, "Secret/"+e.ValueFrom.SecretKeyRef.Name)
			}
		}
	}
	return out
}

// Each pod has the seed of its own user at the broker, and of no other.
func TestEachPodHasItsOwnSeed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rendered) {
		for _, p := range r.pods() {
			name := p.template.Labels["app.kubernetes.io/name"]
			if name == "topology" || name == "tidemark" {
				name = "operator"
			}
			for _, ref := range references(p) {
				secret, isSecret := r.names[ref].(*corev1.Secret)
				if !isSecret {
					continue
				}
				if seed := string(secret.Data["user.nk"]); seed != "" && seed != "SU-"+name {
					t.Errorf("%s has %s, the seed of another", p.owner, seed)
				}
			}
		}
	})
}

// Selectors find their own pods and no others, and services lead to ports that are there.
func TestSelectorsMatch(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rendered) {
		for _, p := range r.pods() {
			if p.selector == nil {
				continue
			}
			if found := r.matching(t, p.selector); len(found) != 1 || found[0].owner != p.owner {
				t.Errorf("%s selects the pods of %v", p.owner, owners(found))
			}
		}
		for _, s := range all[*corev1.Service](r) {
			found := r.matching(t, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
			if len(found) != 1 {
				t.Errorf("service %s leads to %v", s.Name, owners(found))
				continue
			}
			for _, port := range s.Spec.Ports {
				if _, ok := portOf(&found[0].template.Spec.Containers[0], port.TargetPort); !ok {
					t.Errorf("service %s leads to port %s, which %s does not have", s.Name, port.TargetPort.String(), found[0].owner)
				}
			}
		}
		for _, b := range all[*policyv1.PodDisruptionBudget](r) {
			if len(r.matching(t, b.Spec.Selector)) == 0 {
				t.Errorf("the budget %s holds nothing", b.Name)
			}
		}
		for _, i := range all[*networkingv1.Ingress](r) {
			for _, rule := range i.Spec.Rules {
				for _, path := range rule.HTTP.Paths {
					if s, _ := r.names["Service/"+path.Backend.Service.Name].(*corev1.Service); s == nil || s.Spec.Ports[0].Name != path.Backend.Service.Port.Name {
						t.Errorf("%s leads to %+v", path.Path, path.Backend.Service)
					}
				}
			}
		}
	})
}

func owners(found []pods) (out []string) {
	for _, p := range found {
		out = append(out, p.owner)
	}
	return out
}
