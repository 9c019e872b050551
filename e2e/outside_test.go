package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/e2e/suite"
	"github.com/tidemark/tidemark/e2e/target"
)

// outside is the system that the environment names, or nil. docs/how-to/run-the-suite.md lists the variables.
func outside(t *testing.T) *target.Target {
	t.Helper()
	if os.Getenv("TIDEMARK_E2E_TARGET") == "" {
		return nil
	}
	at, err := fromEnvironment(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// fromEnvironment makes a target of variables. A system of containers or of a cluster is known by its addresses; what can be done to its parts is commands.
func fromEnvironment(getenv func(string) string) (*target.Target, error) {
	get := func(name, otherwise string) string { return cmp.Or(getenv("TIDEMARK_E2E_"+name), otherwise) }
	kind := get("TARGET", "")
	commands, gateway, parts := commandSet{}, "", strings.Join(services(), ",")
	switch kind {
	case "compose":
		compose := get("COMPOSE", "docker-compose")
		commands = commandSet{
			kill: compose + " kill -s KILL {part}", stop: compose + " stop {part}", start: compose + " start {part}",
			roll: "COMPOSE='" + compose + "' deploy/docker/replace {part}",
		}
		gateway = "http://127.0.0.1:8090"
		parts += ",nats,tidemark"
	case "url":
	default:
		return nil, fmt.Errorf("TIDEMARK_E2E_TARGET is %q, must be compose or url", kind)
	}
	var errs []error
	deadline, err := time.ParseDuration(get("DEADLINE", "2m"))
	errs = append(errs, err)
	api := strings.TrimSuffix(get("URL", "http://127.0.0.1:8080"), "/")
	token := getenv("TIDEMARK_TOKEN")
	if file := getenv("TIDEMARK_TOKEN_FILE"); token == "" && file != "" {
		raw, err := os.ReadFile(file) //nolint:gosec // the file that the caller names
		errs = append(errs, err)
		token = strings.TrimSpace(string(raw))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	env := []string{"TIDEMARK_URL=" + api}                               // the verbs have the variables of this process, too: where the broker is, credentials
	if gateway = get("GATEWAY", gateway); gateway != "" && token == "" { // with a token check reads the gateway's books through the API: the token is for that address
		env = append(env, "TIDEMARK_GATEWAY_URL="+gateway)
	}
	at := &target.Target{
		Name: kind + " at " + api, API: api, Token: token, Gateway: gateway, Outbox: get("OUTBOX", ""), Jaeger: get("JAEGER", ""), Deadline: deadline,
		Program: filepath.Join(bin, "tidemark"), Env: env, Broker: getenv("TIDEMARK_NATS_URL") != "",
		Overlap: kind == "compose" && get("ROLL", "") == "",
	}
	commands = commandSet{
		kill: get("KILL", commands.kill), stop: get("STOP", commands.stop), start: get("START", commands.start), roll: get("ROLL", commands.roll),
	}
	for name := range strings.SplitSeq(get("PARTS", parts), ",") {
		part := commands.part(name)
		if !slices.Contains(services(), name) {
			part.Roll = nil // a broker alone and the outside world can't be replaced while they work
		}
		at.Parts = append(at.Parts, part)
	}
	return at, nil
}

// commandSet are shell commands, in which {part} stands for a part's name. They are run at the root of the repository; an empty one can't be done.
type commandSet struct{ kill, stop, start, roll string }

func (c commandSet) part(name string) target.Part {
	return target.Part{Name: name, Kill: command(c.kill, name), Stop: command(c.stop, name), Start: command(c.start, name), Roll: command(c.roll, name)}
}

func command(line, part string) func(context.Context) error {
	if line == "" {
		return nil
	}
	return func(ctx context.Context) error {
		line := strings.ReplaceAll(line, "{part}", part)
		cmd := exec.CommandContext(ctx, "sh", "-c", line) //nolint:gosec // the command that the caller names
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", line, err, out)
		}
		return nil
	}
}

// TestTargetByURL runs some of the suite against a system of which it knows what an operator knows of one in a cluster: addresses, a token, commands.
func TestTargetByURL(t *testing.T) {
	t.Parallel()
	u := startUp(t)
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{
		"TIDEMARK_E2E_TARGET": "url", "TIDEMARK_E2E_URL": u.url + "/", "TIDEMARK_E2E_DEADLINE": "15s", "TIDEMARK_E2E_PARTS": "order,notify", "TIDEMARK_TOKEN_FILE": token,
		"TIDEMARK_E2E_KILL": "test -d e2e && touch " + dir + "/{part}.killed", "TIDEMARK_E2E_ROLL": "echo no such {part} >&2; false",
	}
	at, err := fromEnvironment(func(name string) string { return variables[name] })
	if err != nil {
		t.Fatal(err)
	}
	if at.Token != "secret" || at.Deadline != 15*time.Second || at.Can(target.Faults) || at.Can(target.Verbs) || at.Can(target.Traces) || len(at.Killable()) != 2 || len(at.Rollable()) != 2 {
		t.Errorf("target %+v", at)
	}
	suite.Only(t, at, "an order is confirmed", "a click counts once")
	notify := at.Killable()[1]
	if err := notify.Crash(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "notify.killed")); err != nil {
		t.Errorf("the command to kill notify did not do its work: %v", err)
	}
	if err := notify.Roll(t.Context()); err == nil || !strings.Contains(err.Error(), "no such notify") {
		t.Errorf("a command that fails: %v", err)
	}
	for _, wrong := range []map[string]string{{"TIDEMARK_E2E_TARGET": "moon"}, {"TIDEMARK_E2E_TARGET": "url", "TIDEMARK_E2E_DEADLINE": "soon"}, {"TIDEMARK_E2E_TARGET": "url", "TIDEMARK_TOKEN_FILE": dir + "/none"}} {
		if _, err := fromEnvironment(func(name string) string { return wrong[name] }); err == nil {
			t.Errorf("%v is taken", wrong)
		}
	}
}
