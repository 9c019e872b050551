//go:build docker

package docs

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// composed is docker-compose.yml as it stands, under a project name and on ports of its own. Which program reads it says TIDEMARK_COMPOSE: docker-compose, or `docker compose`'s own.
type composed struct {
	program, project string
	ports            map[string]string // variable -> port
	tools            string            // a `docker` of its own, and curl
}

const startTime = 3 * time.Minute

func compose(t *testing.T) *composed {
	t.Helper()
	c := &composed{program: os.Getenv("TIDEMARK_COMPOSE"), project: fmt.Sprintf("tidemark-test-%d", os.Getpid()), ports: map[string]string{}, tools: t.TempDir()}
	if c.program == "" {
		c.program = "docker-compose"
	}
	for _, name := range []string{"TIDEMARK_PORT", "GATEWAY_PORT", "NATS_PORT", "JAEGER_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "MAILPIT_PORT"} {
		c.ports[name] = freePort(t)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// `docker compose` is the program under test, with a project of this test; nobody sits at a terminal.
	docker := "#!/bin/sh\nif [ \"$1\" != compose ]; then exec " + lookPath(t, "docker") + " \"$@\"; fi\nshift\nprofile=\n" +
		"while [ \"$1\" = --profile ]; do profile=\"$profile --profile $2\"; shift 2; done\n" +
		"verb=$1\nshift\n[ \"$verb\" != exec ] || verb='exec -T'\nexec " + c.program + " -p " + c.project + " $profile $verb \"$@\"\n"
	if err := os.WriteFile(filepath.Join(c.tools, "docker"), []byte(docker), 0o700); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(c.tools, "curl")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := c.command(context.Background(), "docker compose ps; docker compose logs --no-color --tail 60").CombinedOutput()
			t.Logf("%s", out)
		}
		if out, err := c.command(context.Background(), "docker compose --profile mail --profile observability --profile load down -v --remove-orphans -t 5").CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	return c
}

func lookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// usual are the ports of the page.
var usual = map[string]string{"TIDEMARK_PORT": "8080", "GATEWAY_PORT": "8090", "NATS_PORT": "4222", "JAEGER_PORT": "16686", "PROMETHEUS_PORT": "9090", "GRAFANA_PORT": "3000", "MAILPIT_PORT": "8025"}

func (c *composed) command(ctx context.Context, script string) *exec.Cmd {
	for name, port := range usual {
		script = strings.ReplaceAll(script, "127.0.0.1:"+port, "127.0.0.1:"+c.ports[name])
	}
	command := exec.CommandContext(ctx, "sh", "-e", "-c", script)
	command.Dir = root
	command.Env = append(clean(os.Environ()), "PATH="+c.tools+string(os.PathListSeparator)+os.Getenv("PATH"))
	if version := os.Getenv("TIDEMARK_VERSION"); version != "" {
		command.Env = append(command.Env, "TIDEMARK_VERSION="+version)
	}
	for name, port := range c.ports {
		command.Env = append(command.Env, name+"="+port)
	}
	return command
}

func (c *composed) run(t *testing.T, script string) string {
	t.Helper()
	out, err := c.command(t.Context(), script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	return string(out)
}

// page runs the marked commands of a page in their order. What only reads is tried again until it says what is expected.
func (c *composed) page(t *testing.T, page string) {
	t.Helper()
	marked := blocks(t, page, pages(t)[page])
	if len(marked) < 3 {
		t.Fatalf("%s has %d marked blocks", page, len(marked))
	}
	for _, b := range marked {
		began := time.Now()
		reads := b.reads() && !strings.Contains(b.script, "docker compose up") && !strings.Contains(b.script, "docker compose down")
		for {
			out, err := c.command(t.Context(), b.script).CombinedOutput()
			output := string(out)
			if err == nil && holds(output, b.expect) {
				break
			}
			if !reads || time.Since(began) > startTime {
				t.Fatalf("%s, test=%s: %v; expected %q:\n%s", page, b.name, err, b.expect, output)
			}
			if wait(t, time.Second) != nil {
				return
			}
		}
		t.Logf("%s, test=%s: %s", page, b.name, time.Since(began).Round(time.Millisecond))
		if strings.Contains(b.script, "docker compose up") {
			c.hardened(t)
		}
	}
}

func wait(t *testing.T, d time.Duration) error {
	t.Helper()
	select {
	case <-time.After(d):
		return nil
	case <-t.Context().Done():
		return t.Context().Err()
	}
}

// hardened looks at every container as it runs: what the file says is what Docker has.
func (c *composed) hardened(t *testing.T) {
	t.Helper()
	ids := strings.Fields(c.run(t, "docker ps -q --filter label=com.docker.compose.project="+c.project))
	if len(ids) < 5 {
		t.Fatalf("%d containers run", len(ids))
	}
	var found []struct {
		Name   string
		Config struct {
			User  string
			Image string
		}
		HostConfig struct {
			ReadonlyRootfs bool
			CapDrop        []string
			SecurityOpt    []string
			Memory         int64
			RestartPolicy  struct{ Name string }
		}
		NetworkSettings struct {
			Ports map[string][]struct{ HostIP string } `json:"Ports"`
		}
	}
	if err := json.Unmarshal([]byte(c.run(t, "docker inspect "+strings.Join(ids, " "))), &found); err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		h := f.HostConfig
		if !h.ReadonlyRootfs || !slices.Contains(h.CapDrop, "ALL") || !slices.Contains(h.SecurityOpt, "no-new-privileges:true") || h.Memory == 0 || h.RestartPolicy.Name == "" {
			t.Errorf("%s: %+v", f.Name, h)
		}
		if strings.HasPrefix(f.Config.Image, "tidemark/") && !regexp.MustCompile(`^[1-9]\d*:`).MatchString(f.Config.User) {
			t.Errorf("%s runs as %q", f.Name, f.Config.User)
		}
		for port, bound := range f.NetworkSettings.Ports {
			for _, b := range bound {
				if b.HostIP != "127.0.0.1" {
					t.Errorf("%s: %s is published at %s", f.Name, port, b.HostIP)
				}
			}
		}
	}
}

// TestComposeCommands runs the marked commands of the page about compose against the real thing.
func TestComposeCommands(t *testing.T) {
	t.Parallel()
	compose(t).page(t, "docs/how-to/compose.md")
}
