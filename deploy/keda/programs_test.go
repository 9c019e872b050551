package keda_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// bin is where TestMain builds our programs: what the manifests say to them is said to them here.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tidemark-keda-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		bin = dir
		build := exec.Command("go", "build", "-o", dir+"/", "./cmd/...", "github.com/nats-io/nats-server/v2")
		build.Dir = filepath.Join("..", "..")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// program runs one of our programs to its end and returns what it prints.
func program(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, name), args...).Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return string(out)
}

// The programs take the arguments and the variables that the manifests give them, and answer where the probes ask. There is no broker: so they live, and are not ready.
func TestProgramsTakeWhatTheManifestsSay(t *testing.T) {
	t.Parallel()
	secrets := madeKeys(t)
	each(t, func(t *testing.T, r *rendered) {
		for _, p := range r.pods() {
			c := &p.template.Spec.Containers[0]
			image, _, _ := strings.Cut(c.Image, ":")
			name, ours := strings.CutPrefix(image, "tidemark/")
			if !ours || name == "tidemark" {
				continue
			}
			t.Run(p.owner, func(t *testing.T) {
				t.Parallel()
				port := fmt.Sprint(c.Ports[0].ContainerPort)
				addr := freeAddr(t)
				var args []string
				for _, arg := range c.Args {
					args = append(args, strings.ReplaceAll(arg, ":"+port, addr))
				}
				if strings.Join(args, " ") == strings.Join(c.Args, " ") {
					t.Fatalf("port %s is not among the arguments %q", port, c.Args)
				}
				ctx, cancel := context.WithCancel(t.Context())
				cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
				cmd.Env = append(r.environment(c, secrets), "TIDEMARK_NATS_URL=nats://127.0.0.1:1")
				var said strings.Builder
				cmd.Stderr = &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				defer func() { cancel(); <-ended }()
				answers(t, "http://"+addr+c.LivenessProbe.HTTPGet.Path, http.StatusOK, ended, &said)
				answers(t, "http://"+addr+c.ReadinessProbe.HTTPGet.Path, http.StatusServiceUnavailable, ended, &said)
			})
		}
	})
}

func answers(t *testing.T, url string, want int, ended chan error, said fmt.Stringer) {
	t.Helper()
	for began := time.Now(); time.Since(began) < 30*time.Second; {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s: %d, want %d", url, response.StatusCode, want)
			}
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("it ended: %v\n%s", err, said)
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not answer", url)
}

// environment is what a container has of our variables, with paths to where the keys are here.
func (r *rendered) environment(c *corev1.Container, secrets string) (out []string) {
	out = append(out, "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"))
	for _, from := range c.EnvFrom {
		m := r.names["ConfigMap/"+from.ConfigMapRef.Name].(*corev1.ConfigMap)
		for name, value := range m.Data {
			switch {
			case strings.HasPrefix(name, "OTEL_"):
				continue // nobody is there who would take traces
			case name == "TIDEMARK_NATS_NKEY":
				value = filepath.Join(secrets, "order.nk")
			case name == "TIDEMARK_JWKS":
				value = filepath.Join(secrets, "jwks.json")
			}
			out = append(out, name+"="+value)
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			out = append(out, e.Name+"="+e.Value)
		}
	}
	return out
}

// madeKeys makes the keys as the how-to says.
func madeKeys(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	users := program(t, "tidemark", "topology", "nats-conf", "--keys", dir)
	if err := os.WriteFile(filepath.Join(dir, "users.conf"), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, "tidemark", "token", "keys", "--keys", dir)
	return dir
}

// nats-server takes the configuration of both overlays, with the users that the program writes.
func TestBrokerTakesItsConfiguration(t *testing.T) {
	t.Parallel()
	secrets := madeKeys(t)
	users, err := os.ReadFile(filepath.Join(secrets, "users.conf"))
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, r *rendered) {
		etc := t.TempDir()
		dir := filepath.Join(etc, "nats")
		for _, d := range []string{dir, filepath.Join(etc, "nats-users")} {
			if err := os.Mkdir(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		p := r.owned(t, "StatefulSet/nats")
		for _, ref := range references(*p) {
			m, isMap := r.names[ref].(*corev1.ConfigMap)
			if !isMap {
				continue
			}
			for name, data := range m.Data {
				file := filepath.Join(dir, name)
				if name == "users.conf" {
					file, data = filepath.Join(etc, "nats-users", name), string(users)
				}
				if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "nats-server"), "-t", "-c", filepath.Join(dir, "nats.conf"))
		cmd.Env = append(os.Environ(), "NATS_NAME=nats-0", "NATS_STORE="+dir, "NATS_ROUTE_PASSWORD=secret", "NATS_ROUTES=[nats://route:secret@nats-0.nats-headless:6222]")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
