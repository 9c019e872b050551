package docs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain makes the test binary a small curl when it is called by that name: the commands of the docs use curl, and a machine with only Go need not
// have one.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "curl" {
		if err := curl(os.Args[1:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "curl:", err)
			os.Exit(1)
		}
		return
	}
	status := m.Run()
	_ = os.RemoveAll(programs.dir) // one of the system's temporary files, if there is one
	os.Exit(status)
}

// curl knows what the docs use: -s, -i, -X METHOD, -H HEADER, -d BODY and one URL.
func curl(args []string, out io.Writer) error {
	method, body, url, head := http.MethodGet, "", "", false
	header := make(http.Header)
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "-s":
		case arg == "-i":
			head = true
		case (arg == "-X" || arg == "-H" || arg == "-d") && i+1 < len(args):
			i++
			switch arg {
			case "-X":
				method = args[i]
			case "-H":
				name, value, _ := strings.Cut(args[i], ":")
				header.Add(name, strings.TrimSpace(value))
			default:
				body = args[i]
			}
		case strings.HasPrefix(arg, "http://") && url == "":
			url = arg
		default:
			return fmt.Errorf("%q is not known here", arg)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = header
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if head {
		fmt.Fprintln(out, response.Proto, response.Status)
		if err := response.Header.Write(out); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	_, err = io.Copy(out, response.Body)
	return err
}

// block is a fenced shell block that is marked as a test, and what must stand in its output. One that watches runs beside those behind it, as in a terminal of
// its own, until what is expected of it has come.
type block struct {
	name, script string
	expect       []string
	watches      bool
}

var fence = regexp.MustCompile("(?ms)^```(\\w+)(?: (test|watch|expect)=([a-z0-9-]+))?\n(.*?)^```$")

func blocks(t *testing.T, page, text string) []block {
	t.Helper()
	var out []block
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		switch m[2] {
		case "test", "watch":
			out = append(out, block{name: m[3], script: m[4], watches: m[2] == "watch"})
		case "expect":
			at := slices.IndexFunc(out, func(b block) bool { return b.name == m[3] })
			if at < 0 || at < len(out)-1 && !out[at].watches {
				t.Fatalf("%s: expect=%s does not follow test=%s", page, m[3], m[3])
			}
			out[at].expect = strings.Split(strings.TrimSpace(m[4]), "\n")
		}
	}
	return out
}

// TestCommands runs the marked commands of the README, the tutorial and how-tos, in their order, against a system of their own.
func TestCommands(t *testing.T) {
	t.Parallel()
	s := up(t, build(t))
	s.page(t, "README.md")
	s.page(t, "docs/tutorial/first-hour.md")
	s.page(t, "docs/how-to/groups-and-replay.md")
	s.page(t, "docs/how-to/kubernetes.md")
	s.page(t, "docs/how-to/rebuild-a-projection.md")
	httpPageNamesEveryOperation(t, s)
	s.stop(t)
}

// TestBackupCommands does the same with a backup.
func TestBackupCommands(t *testing.T) {
	t.Parallel()
	s := up(t, build(t))
	s.page(t, "docs/how-to/backup.md")
	s.stop(t)
}

// TestTokenCommands does the same where every caller needs a token.
func TestTokenCommands(t *testing.T) {
	t.Parallel()
	bin, dir := build(t), t.TempDir()
	keys := exec.CommandContext(t.Context(), filepath.Join(bin, "tidemark"), "token", "keys", "--keys", filepath.Join(dir, "keys"))
	if out, err := keys.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := up(t, bin, "--jwks", filepath.Join(dir, "keys", "jwks.json"))
	s.scratch = dir
	s.page(t, "docs/how-to/tokens.md")
	s.stop(t)
}

// TestDeadLetterCommands does the same with the way from an alert to the fix.
func TestDeadLetterCommands(t *testing.T) {
	t.Parallel()
	s := up(t, build(t))
	s.page(t, "docs/how-to/dead-letters.md")
	s.stop(t)
}

// TestLateCommands does the same with late events.
func TestLateCommands(t *testing.T) {
	t.Parallel()
	s := up(t, build(t))
	s.page(t, "docs/how-to/late-data.md")
	s.stop(t)
}

// TestClockCommands does the same with a clock that runs ahead.
func TestClockCommands(t *testing.T) {
	t.Parallel()
	s := up(t, build(t))
	s.page(t, "docs/how-to/clock-runs-ahead.md")
	s.stop(t)
}

// TestTraceCommands does the same with the journeys of an order of each kind.
func TestTraceCommands(t *testing.T) {
	t.Parallel()
	s := up(t, build(t), "--order-deadline", "5s")
	s.page(t, "docs/how-to/traces.md")
	s.stop(t)
}

// page runs the marked commands of one page.
func (s *running) page(t *testing.T, page string) {
	t.Helper()
	marked := blocks(t, page, pages(t)[page])
	if len(marked) < 3 {
		t.Fatalf("%s has %d marked blocks", page, len(marked))
	}
	for _, b := range marked {
		began := time.Now()
		if b.watches {
			defer s.watch(t, page, b)()
			continue
		}
		output := s.run(t, b.script)
		// What happens behind an answer (a mail) takes a moment: what only reads is tried again, as a reader would.
		for b.reads() && !holds(output, b.expect) && time.Since(began) < patience {
			output = s.run(t, b.script)
		}
		if !holds(output, b.expect) {
			t.Fatalf("%s, test=%s: the output does not hold all of %q:\n%s", page, b.name, b.expect, output)
		}
		t.Logf("%s, test=%s: %s", page, b.name, time.Since(began).Round(time.Millisecond))
	}
}

// watch starts a block that does not end by itself. What it returns waits for what is expected of it, and ends it.
func (s *running) watch(t *testing.T, page string, b block) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	name, args, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(b.script), "go run ./cmd/"), " ")
	command := exec.CommandContext(ctx, filepath.Join(s.bin, name), strings.Fields(args)...) // no shell: what it starts would outlive it
	command.Env = append(clean(os.Environ()), "TIDEMARK_URL="+s.api)
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatalf("%s, watch=%s: %v", page, b.name, err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return func() {
		limit := time.After(patience)
		output := ""
		for waiting := true; waiting && !holds(output, b.expect); {
			select {
			case line, more := <-lines:
				output += line + "\n"
				waiting = more
			case <-limit:
				waiting = false
			}
		}
		cancel()
		for range lines { // to its end
		}
		_ = command.Wait() // it was killed
		if !holds(output, b.expect) {
			t.Errorf("%s, watch=%s: the output does not hold all of %q:\n%s", page, b.name, b.expect, output)
		}
	}
}

const patience = 10 * time.Second

func (b block) reads() bool {
	return !strings.Contains(b.script, "curl -s -X") && !strings.Contains(b.script, "tidemark load") && !strings.Contains(b.script, "tidemark backfill") && !strings.Contains(b.script, "tidemark replay") && !strings.Contains(b.script, "dlq replay") && !strings.Contains(b.script, "projections swap")
}

func holds(output string, expect []string) bool {
	for _, e := range expect {
		if !strings.Contains(output, e) {
			return false
		}
	}
	return true
}

// httpPageNamesEveryOperation compares the description that the API gives of itself with the page of the docs.
func httpPageNamesEveryOperation(t *testing.T, s *running) {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(s.run(t, "curl -s http://127.0.0.1:8080/openapi.json")), &doc); err != nil {
		t.Fatal(err)
	}
	page := pages(t)["docs/reference/http.md"]
	n := 0
	for path, methods := range doc.Paths {
		for method := range methods {
			n++
			if !regexp.MustCompile("`" + strings.ToUpper(method) + " " + regexp.QuoteMeta(path) + "[`?]").MatchString(page) {
				t.Errorf("docs/reference/http.md does not have %s %s", strings.ToUpper(method), path)
			}
		}
	}
	if n < 15 {
		t.Errorf("the API describes %d operations: the services' paths are missing", n)
	}
}

// Every flag and variable that a program has is on the page.
func TestConfigurationPageNamesEveryFlag(t *testing.T) {
	t.Parallel()
	bin := build(t)
	page := pages(t)["docs/reference/configuration.md"]
	name := regexp.MustCompile(`--[a-z][a-z-]+|\bTIDEMARK_[A-Z_]+`)
	for _, program := range [][]string{
		{"order"}, {"inventory"}, {"notify"}, {"analytics"}, {"tidemark", "up"}, {"tidemark", "load"}, {"tidemark", "check"}, {"tidemark", "windows"}, {"tidemark", "lateness"}, {"tidemark", "backfill"},
		{"tidemark", "orders", "list"}, {"tidemark", "orders", "cancel"}, {"tidemark", "orders", "trace"}, {"tidemark", "topology", "apply"},
		{"tidemark", "dlq", "list"}, {"tidemark", "dlq", "edit"}, {"tidemark", "dlq", "replay"}, {"tidemark", "dlq", "discard"}, {"tidemark", "dlq", "job", "cancel"},
		{"tidemark", "projections", "rebuild"}, {"tidemark", "projections", "swap"},
		{"tidemark", "groups"}, {"tidemark", "groups", "show"}, {"tidemark", "replay"},
	} {
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, program[0]), append(program[1:], "--help")...).Output()
		if err != nil {
			t.Fatalf("%v --help: %v", program, err)
		}
		found := name.FindAllString(string(out), -1)
		if len(found) < 2 {
			t.Errorf("%v --help shows no flags:\n%s", program, out)
		}
		for _, flag := range found {
			if flag != "--help" && !strings.Contains(page, "`"+flag) {
				t.Errorf("docs/reference/configuration.md does not have %s of %v", flag, program)
			}
		}
	}
}

// Commands that no test runs are at least commands: the verb is there, and so are its flags.
func TestUnmarkedCommandsExist(t *testing.T) {
	t.Parallel()
	bin := build(t)
	command := regexp.MustCompile(`(?m)(?:go run \./cmd/|bin/)(tidemark|order|inventory|notify|analytics)((?: [^\s|;#]+)*)`)
	for page, text := range pages(t) {
		for _, m := range fence.FindAllStringSubmatch(text, -1) {
			if m[1] != "sh" {
				continue
			}
			for _, c := range command.FindAllStringSubmatch(m[4], -1) {
				commandExists(t, bin, page, c[1], strings.Fields(c[2]))
			}
		}
	}
}

func commandExists(t *testing.T, bin, page, program string, args []string) {
	t.Helper()
	var verb []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") || len(verb) == 2 || len(verb) == 1 && verb[0] != "orders" && verb[0] != "topology" && verb[0] != "dlq" && verb[0] != "groups" && verb[0] != "projections" && verb[0] != "token" {
			break
		}
		verb = append(verb, arg)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, program), append(verb, "--help")...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %s %v: %v\n%s", page, program, verb, err, out)
		return
	}
	for _, arg := range args {
		flag, _, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(flag, "--") && !bytes.Contains(out, []byte(flag)) {
			t.Errorf("%s: %s %v has no flag %s", page, program, verb, flag)
		}
	}
}

// programs are built once, for the first test that needs them; TestMain removes them.
var programs struct {
	once sync.Once
	dir  string
	err  error
}

func build(t *testing.T) string {
	t.Helper()
	programs.once.Do(func() {
		if programs.dir, programs.err = os.MkdirTemp("", "tidemark-docs-"); programs.err != nil { //nolint:usetesting // shared by all tests of the package
			return
		}
		command := exec.Command("go", "build", "-o", programs.dir+string(filepath.Separator), "./cmd/...")
		command.Dir = root
		if out, err := command.CombinedOutput(); err != nil {
			programs.err = fmt.Errorf("go build ./cmd/...: %w\n%s", err, out)
		}
	})
	if programs.err != nil {
		t.Fatal(programs.err)
	}
	return programs.dir
}

// running is a `tidemark up` of this test alone.
type running struct {
	bin, api, gateway string
	scratch           string // where commands run, and may leave files
	command           *exec.Cmd
}

func up(t *testing.T, bin string, args ...string) *running {
	t.Helper()
	s := &running{bin: bin, scratch: t.TempDir()}
	dir := t.TempDir()
	args = append([]string{ // any port: a usual one is free for one of several at once
		"up", "--http", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--smtp", "127.0.0.1:0", "--data", filepath.Join(dir, "data"),
	}, args...)
	s.command = exec.CommandContext(t.Context(), filepath.Join(bin, "tidemark"), args...)
	s.command.Dir = dir
	s.command.Env = clean(os.Environ())
	var stderr bytes.Buffer
	s.command.Stderr = &stderr
	out, err := s.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`^  (API|payment gateway) +(http://[^/]+)/`)
	ready := false
	lines := bufio.NewScanner(out)
	for !ready && lines.Scan() {
		if m := address.FindStringSubmatch(lines.Text()); m != nil && m[1] == "API" {
			s.api = m[2]
		} else if m != nil {
			s.gateway = m[2]
		}
		ready = strings.HasPrefix(lines.Text(), "ready ")
	}
	if !ready || s.api == "" || s.gateway == "" {
		t.Fatalf("up does not get ready (API %q, gateway %q):\n%s", s.api, s.gateway, stderr.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // what it says from now on; ends with the process
	return s
}

// clean leaves out what would make the programs do something else here.
func clean(env []string) []string {
	var out []string
	for _, entry := range env {
		if !strings.HasPrefix(entry, "TIDEMARK_") && !strings.HasPrefix(entry, "OTEL_") {
			out = append(out, entry)
		}
	}
	return out
}

// run runs a block as it stands, but for the addresses and the program.
func (s *running) run(t *testing.T, script string) string {
	t.Helper()
	tools := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(tools, "curl")); err != nil {
		t.Fatal(err)
	}
	script = strings.NewReplacer(
		"http://127.0.0.1:8080", s.api, "http://127.0.0.1:8090", s.gateway, "go run ./cmd/tidemark", filepath.Join(s.bin, "tidemark"),
	).Replace(script)
	command := exec.CommandContext(t.Context(), "sh", "-e", "-c", script)
	command.Dir = s.scratch
	command.Env = append(clean(os.Environ()), "TIDEMARK_URL="+s.api, "PATH="+tools+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	return string(out)
}

// stop asks the system to end, as Ctrl-C does.
func (s *running) stop(t *testing.T) {
	t.Helper()
	if err := s.command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := s.command.Wait(); err != nil {
		t.Errorf("up: %v", err)
	}
}
