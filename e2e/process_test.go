package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// bin is where TestMain builds the programs: the tests run them as a user does, as processes that can be killed.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tidemark-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		bin = dir
		build := exec.Command("go", "build", "-o", dir+"/", "./cmd/...", "github.com/nats-io/nats-server/v2")
		build.Dir = ".."
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// process is a running program.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	mu     sync.Mutex
	output bytes.Buffer

	mayBeDenied bool // by the broker
	done        chan struct{}
	err         error // valid when done is closed
}

// start runs a program of bin. What it prints goes to the test's log when the test fails.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startWith(t, nil, name, args...)
}

// startWith is start with more variables.
func startWith(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: exec.Command(filepath.Join(bin, name), args...), done: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), "TIDEMARK_LOG_LEVEL=warn"), env...)
	p.cmd.Dir = t.TempDir()
	reader, writer := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = writer, writer
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(reader)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			p.mu.Lock()
			p.output.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
		}
	}()
	go func() {
		p.err = p.cmd.Wait()
		_ = writer.Close()
		<-read
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if strings.Contains(p.printed(), "does not allow") && !p.mayBeDenied {
			t.Errorf("the broker denies %s what it needs", name)
		}
		if t.Failed() {
			t.Logf("%s %s printed:\n%s", name, strings.Join(args, " "), p.printed())
		}
	})
	return p
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// kill is SIGKILL: the process gets no chance to put anything in order.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// stop is Ctrl-C; it returns how long the end took and fails the test when the exit status is not 0.
func (p *process) stop() time.Duration {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatalf("interrupt %s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		p.t.Fatalf("%s has not stopped 15 s after Ctrl-C", p.name)
	}
	if p.err != nil {
		p.t.Errorf("%s ended with %v after Ctrl-C", p.name, p.err)
	}
	return time.Since(began)
}

// terminate is SIGTERM, as whoever replaces a program sends it. It must end by itself, with status 0.
func (p *process) terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("terminate %s: %w", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		return fmt.Errorf("%s has not stopped 15 s after SIGTERM", p.name)
	}
	if p.err != nil {
		return fmt.Errorf("%s ended with %w after SIGTERM", p.name, p.err)
	}
	return nil
}

func (p *process) awaitLine(limit time.Duration, prefix string) {
	p.t.Helper()
	eventstest.Eventually(p.t, limit, fmt.Sprintf("%s prints %q", p.name, prefix), func() bool {
		select {
		case <-p.done:
			p.t.Fatalf("%s ended: %v\n%s", p.name, p.err, p.printed())
		default:
		}
		return strings.Contains(p.printed(), "\n"+prefix) || strings.HasPrefix(p.printed(), prefix)
	})
}

// verb runs a verb of tidemark to its end.
func verb(t *testing.T, args ...string) (stdout string, status int) {
	t.Helper()
	stdout, _, status = verbSays(t, args...)
	return stdout, status
}

// verbSays is verb with what goes to stderr.
func verbSays(t *testing.T, args ...string) (stdout, said string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "tidemark"), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("tidemark %s: %v", strings.Join(args, " "), err)
	}
	t.Logf("tidemark %s: exit status %d\n%s%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), out, stderr.String())
	return string(out), stderr.String(), cmd.ProcessState.ExitCode()
}

// up is a running `tidemark up` that can be killed and started again on the same data and addresses.
type up struct {
	*process
	args []string
	env  []string
	url  string
	nats string
}

func startUp(t *testing.T, extra ...string) *up {
	t.Helper()
	return startUpWith(t, nil, filepath.Join(t.TempDir(), "data"), extra...)
}

// startUpOn is startUp on a data directory that may be there already.
func startUpOn(t *testing.T, data string, extra ...string) *up {
	t.Helper()
	return startUpWith(t, nil, data, extra...)
}

func startUpWith(t *testing.T, env []string, data string, extra ...string) *up {
	t.Helper()
	addr, natsAddr := freeAddr(t), freeAddr(t)
	u := &up{url: "http://" + addr, nats: "nats://" + natsAddr, env: env}
	u.args = append([]string{
		"up", "--http", addr, "--gateway", freeAddr(t), "--smtp", freeAddr(t), "--data", data,
	}, extra...)
	if !strings.Contains(strings.Join(extra, " "), "--nats ") {
		u.args = append(u.args, "--nats-addr", natsAddr)
	}
	u.again(t)
	return u
}

// seed is the file of a user of the broker.
func (u *up) seed(t *testing.T, user string) string {
	t.Helper()
	var where struct {
		Operator string `json:"operator_creds_file"`
	}
	if status := get(t, u.url+"/v1/system", &where); status != http.StatusOK {
		t.Fatalf("/v1/system answers %d", status)
	}
	return filepath.Join(filepath.Dir(where.Operator), user+".nk")
}

func (u *up) again(t *testing.T) {
	t.Helper()
	u.process = startWith(t, u.env, "tidemark", u.args...)
	u.awaitLine(30*time.Second, "ready")
}

// freeAddr is an address to listen on that stays free until it is. The system lends the ports of its ephemeral range to whoever connects out, so
// one that was free a moment ago may be taken; these lie below it, and each test process has a hundred of its own.
func freeAddr(t *testing.T) string {
	t.Helper()
	const lowest, each, processes = 20_000, 100, 120 // Linux lends from 32768 on
	base := lowest + os.Getpid()%processes*each
	for range each {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(base+int(lastPort.Add(1)%each)))
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
		if err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// lastPort is a counter, so that no two tests of this process are given the same port.
var lastPort atomic.Int64

// send sends JSON to the API, which must answer with the status want.
func send(t *testing.T, method, url, body string, want int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != want {
		t.Fatalf("%s %s: %d, want %d", method, url, res.StatusCode, want)
	}
}

// get reads JSON from the API into v and returns the status.
func get(t *testing.T, url string, v any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0 // not there (any more, or yet)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode == http.StatusOK && v != nil {
		if err := json.NewDecoder(res.Body).Decode(v); err != nil {
			t.Fatalf("GET %s: %v", url, err)
		}
	}
	return res.StatusCode
}

// startBroker runs nats-server in a process of its own.
func startBroker(t *testing.T) (url string, p *process, again func() *process) {
	t.Helper()
	addr, dir := freeAddr(t), t.TempDir()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	again = func() *process { return start(t, "nats-server", "-a", host, "-p", port, "-js", "-sd", dir) }
	return "nats://" + addr, again(), again
}
