package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestComposeIsPinned: every image has its version, the broker's is the one that our tests run on, and every port is the machine's alone.
func TestComposeIsPinned(t *testing.T) {
	t.Parallel()
	file := read(t, "docker-compose.yml")
	images := regexp.MustCompile(`(?m)^ +image: (\S+)$`).FindAllStringSubmatch(file, -1)
	if len(images) < 8 {
		t.Fatalf("%d images", len(images))
	}
	pinned := regexp.MustCompile(`^[a-z0-9/-]+:(v?\d+\.\d+\.\d+(-alpine)?|\$\{TIDEMARK_VERSION:-devel\})$`)
	for _, image := range images {
		if !pinned.MatchString(image[1]) {
			t.Errorf("image %s has no full version", image[1])
		}
	}
	server := regexp.MustCompile(`github\.com/nats-io/nats-server/v2 v(\S+)`).FindStringSubmatch(read(t, "go.mod"))
	if server == nil || !strings.Contains(file, "image: nats:"+server[1]+"-alpine\n") {
		t.Errorf("docker-compose.yml does not have the nats-server of go.mod, %v", server)
	}
	published := 0
	for _, m := range regexp.MustCompile(`"([^"\s]+):(\d+)"`).FindAllStringSubmatch(file, -1) {
		if strings.HasPrefix(m[1], "127.0.0.1:${") {
			published++
		} else if !strings.HasPrefix(m[1], "6553") {
			t.Errorf("port %s is not the machine's alone, or can't be moved", m[0])
		}
	}
	if published < 5 {
		t.Errorf("%d ports", published)
	}
	if strings.Contains(file, "sleep") {
		t.Error("something waits for a time, and not for a condition")
	}
}

// TestImagesBuildWithTheGoOfTheModule: the build image is pinned, and new enough for go.mod.
func TestImagesBuildWithTheGoOfTheModule(t *testing.T) {
	t.Parallel()
	from := regexp.MustCompile(`(?m)^FROM golang:(\d+\.\d+)\.\d+-alpine AS build$`).FindStringSubmatch(read(t, "deploy/docker/Dockerfile"))
	need := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if from == nil || need == nil || from[1] != need[1] {
		t.Errorf("the images are built with Go %v, and go.mod says %v", from, need)
	}
}

// TestEveryServiceHasAnImage: a target, a health check and a service in docker-compose.yml for each program of cmd.
func TestEveryServiceHasAnImage(t *testing.T) {
	t.Parallel()
	programs, err := os.ReadDir("../cmd")
	if err != nil || len(programs) < 5 {
		t.Fatalf("%d programs, %v", len(programs), err)
	}
	dockerfile, file := read(t, "deploy/docker/Dockerfile"), read(t, "docker-compose.yml")
	for _, p := range programs {
		_, stage, ok := strings.Cut(dockerfile, "\nFROM base AS "+p.Name()+"\n")
		if stage, _, _ = strings.Cut(stage, "\nFROM "); !ok || !strings.Contains(stage, `CMD ["/bin/`+p.Name()+`", `) || !strings.Contains(stage, "HEALTHCHECK") {
			t.Errorf("the Dockerfile has no target %s with a health check", p.Name())
		}
		if !strings.Contains(file, "image: tidemark/"+p.Name()+":") {
			t.Errorf("docker-compose.yml does not start %s", p.Name())
		}
	}
}
