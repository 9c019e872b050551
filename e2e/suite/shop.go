package suite

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/e2e/target"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// patience is how long something may take that happens by itself. A system that has just lost a part needs some seconds, and one that runs beside others is slow.
const patience = 90 * time.Second

// Shop is what a case works with: the system, and names in it that are its own.
type Shop struct {
	*testing.T
	at     *target.Target
	client *http.Client
	own    string    // is in every name that this case makes up
	run    time.Time // when the case began
}

func open(t *testing.T, at *target.Target) *Shop {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 10 * time.Second, Proxy: http.ProxyFromEnvironment}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Shop{T: t, at: at, client: client, run: time.Now(), own: strings.ToLower(rand.Text()[:10])}
}

// name is one of the case's own: an article, a customer, a page, a key.
func (s *Shop) name(what string) string { return what + "-" + s.own }

// email is where the case's own customer can be reached.
func (s *Shop) email(who string) string { return s.name(who) + "@customers.example" }

// answer is what the API said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, bytes.TrimSpace(a.body)) }

// into decodes the body.
func (a answer) into(s *Shop, v any) {
	s.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		s.Fatalf("%s: %v", a, err)
	}
}

// ask sends one request to an address of the system. The error is the connection's.
func (s *Shop) ask(ctx context.Context, method, address string, body any, header map[string]string) (answer, error) {
	var payload io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		payload = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		payload = bytes.NewReader(raw)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, payload)
	if err != nil {
		return answer{}, err
	}
	req.GetBody = nil // nothing is repeated behind the back of a case
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.at.Token != "" && (s.at.Jaeger == "" || !strings.HasPrefix(address, s.at.Jaeger+"/")) { // Jaeger is not ours, and no business of the token
		req.Header.Set("Authorization", "Bearer "+s.at.Token)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, raw}, err
}

// call is a request to the API that must be answered, whatever the answer is.
func (s *Shop) call(method, path string, body any, header map[string]string) answer {
	s.Helper()
	return s.callAt(s.at.API, method, path, body, header)
}

func (s *Shop) callAt(base, method, path string, body any, header map[string]string) answer {
	s.Helper()
	a, err := s.ask(s.Context(), method, base+path, body, header)
	if err != nil {
		s.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// read decodes what a GET of the API answers, which must be 200.
func (s *Shop) read(path string, v any) {
	s.Helper()
	s.readAt(s.at.API, path, v)
}

func (s *Shop) readAt(base, path string, v any) {
	s.Helper()
	a := s.callAt(base, http.MethodGet, path, nil, nil)
	if a.status != http.StatusOK {
		s.Fatalf("GET %s: %s", path, a)
	}
	a.into(s, v)
}

// until waits for something that happens by itself.
func (s *Shop) until(what string, holds func() bool) {
	s.Helper()
	eventstest.Eventually(s.T, patience, what, holds)
}

// verb runs a verb of tidemark to its end, and returns what it printed and its exit status.
func (s *Shop) verb(args ...string) (stdout string, status int) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.at.Program, args...) //nolint:gosec // our own program
	cmd.Env = append(os.Environ(), s.at.Env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatalf("tidemark %s: %v", strings.Join(args, " "), err)
	}
	s.Logf("tidemark %s: exit status %d\n%s%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), out, stderr.String())
	return string(out), cmd.ProcessState.ExitCode()
}

// done is verb of one that must succeed; its JSON is decoded, one value a line.
func done[T any](s *Shop, args ...string) (all []T) {
	s.Helper()
	out, status := s.verb(args...)
	if status != 0 {
		s.Fatalf("tidemark %s: exit status %d", strings.Join(args, " "), status)
	}
	for line := range strings.Lines(out) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			s.Fatalf("tidemark %s printed %q: %v", strings.Join(args, " "), line, err)
		}
		all = append(all, v)
	}
	return all
}

// query is the query part of a path.
func query(pairs ...string) string {
	v := url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		v.Set(pair[0], pair[1])
	}
	return "?" + v.Encode()
}
