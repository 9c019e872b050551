package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// KeysConfig says where keys are.
type KeysConfig struct {
	From   string       // a file, or an https URL (http on this machine only)
	Logger *slog.Logger // default: none

	Refresh time.Duration // how often they are read again. Default 5 minutes from a URL, 10 s from a file
	Pause   time.Duration // the least time between two attempts, whatever tokens ask for. Default 10 s, of a file 100 ms
	Timeout time.Duration // of one attempt. Default 5 s
	HTTP    *http.Client  // default: one that follows no redirect
}

// Validate says what is wrong with the place.
func (c KeysConfig) Validate() error {
	if c.From == "" {
		return fmt.Errorf("%w: no file and no URL", ErrKeys)
	}
	if !isURL(c.From) {
		return nil
	}
	u, err := url.Parse(c.From)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeys, err)
	}
	if u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !onThisMachine(u.Hostname())) {
		return fmt.Errorf("%w: %s must be an https URL: whoever can change the answer can make tokens (http is for this machine only)", ErrKeys, u.Redacted())
	}
	return nil
}

func isURL(from string) bool { return strings.Contains(from, "://") }

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c KeysConfig) withDefaults() KeysConfig {
	set := func(v *time.Duration, byDefault time.Duration) {
		if *v <= 0 {
			*v = byDefault
		}
	}
	if isURL(c.From) {
		set(&c.Refresh, 5*time.Minute)
	}
	set(&c.Refresh, 10*time.Second)
	if !isURL(c.From) {
		set(&c.Pause, 100*time.Millisecond) // nobody is bothered by it
	}
	set(&c.Pause, 10*time.Second)
	set(&c.Timeout, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: c.Timeout, MaxIdleConns: 1, IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return c
}

// Keys are the keys that tokens are checked with. They are read again now and then, and when a token names a key that is not among them: so the provider can rotate its
// keys, and nothing is restarted. The last good ones are kept for as long as no good ones come. It is safe for use by many goroutines.
type Keys struct {
	cfg     KeysConfig
	current atomic.Pointer[keySet]
	ready   chan struct{} // closed when there are keys
	wanted  chan struct{} // a token names a key that is not there

	mu      sync.Mutex
	tried   time.Time     // when the last attempt began
	running bool          // one is being made
	attempt chan struct{} // closed when the attempt that is running or comes next has ended
}

// NewKeys checks the configuration. A file is read at once: what is wrong with it is wrong use. A URL is asked by Run: its provider may be down for a moment.
func NewKeys(cfg KeysConfig) (*Keys, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	k := &Keys{cfg: cfg.withDefaults(), ready: make(chan struct{}), wanted: make(chan struct{}, 1), attempt: make(chan struct{})}
	if isURL(cfg.From) {
		return k, nil
	}
	if err := k.load(context.Background()); err != nil {
		return nil, err
	}
	return k, nil
}

// Ready is closed when there are keys.
func (k *Keys) Ready() <-chan struct{} { return k.ready }

// Healthy says that there are none.
func (k *Keys) Healthy() error {
	if k.current.Load() == nil {
		return fmt.Errorf("%w: not read yet", ErrKeys)
	}
	return nil
}

// retry is how often a URL is asked while there are no keys at all.
const retry = 2 * time.Second

// Run reads the keys again and again until ctx ends. It is the only one that does, so there is never more than one attempt at a time.
func (k *Keys) Run(ctx context.Context) error {
	defer k.cfg.HTTP.CloseIdleConnections()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-k.wanted:
			if k.recent() {
				continue // another one asked for the same
			}
		}
		if err := k.load(ctx); err != nil && ctx.Err() == nil {
			k.cfg.Logger.Warn("keys of tokens are not read; those from before stay", "from", redacted(k.cfg.From), "error", err)
		}
		next := k.cfg.Refresh
		if k.current.Load() == nil {
			next = min(next, retry)
		}
		timer.Reset(next)
	}
}

// load makes one attempt. Whoever waits for it is told of its end, whatever came of it.
func (k *Keys) load(ctx context.Context) error {
	k.mu.Lock()
	k.tried, k.running = time.Now(), true
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		close(k.attempt)
		k.attempt, k.running = make(chan struct{}), false
	}()
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Timeout)
	defer cancel()
	document, err := k.read(ctx)
	if err != nil {
		return err
	}
	set, err := parseKeySet(document)
	if err != nil {
		return err
	}
	if k.current.Swap(set) == nil {
		close(k.ready)
	}
	return nil
}

func (k *Keys) read(ctx context.Context) ([]byte, error) {
	if !isURL(k.cfg.From) {
		f, err := os.Open(k.cfg.From)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKeys, err)
		}
		document, err := io.ReadAll(io.LimitReader(f, maxKeysBytes+1))
		return document, errors.Join(err, f.Close())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.cfg.From, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := k.cfg.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	defer func() { _ = res.Body.Close() }() // read only: nothing can be lost
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: answered %s", ErrKeys, res.Status)
	}
	return io.ReadAll(io.LimitReader(res.Body, maxKeysBytes+1))
}

// errNoKeys: there are no keys at all, so nothing can be said of a token.
var errNoKeys = errors.New("no keys yet")

// find are the keys that may have signed a token. Where none fits they are read again first, unless that was done a moment ago: a token can't make us ask more often.
func (k *Keys) find(ctx context.Context, id string, alg jose.SignatureAlgorithm) ([]jose.JSONWebKey, error) {
	if found := k.among(id, alg); found != nil {
		return found, nil
	}
	k.again(ctx)
	if k.current.Load() == nil {
		return nil, errNoKeys
	}
	return k.among(id, alg), nil
}

func (k *Keys) among(id string, alg jose.SignatureAlgorithm) []jose.JSONWebKey {
	set := k.current.Load()
	if set == nil {
		return nil
	}
	return set.find(id, alg)
}

func (k *Keys) recent() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Since(k.tried) < k.cfg.Pause
}

// again asks Run for an attempt and waits for its end. Where one is being made it waits for that one, and where one has just ended it does nothing.
func (k *Keys) again(ctx context.Context) {
	k.mu.Lock()
	attempt, running, recent := k.attempt, k.running, time.Since(k.tried) < k.cfg.Pause
	k.mu.Unlock()
	if recent && !running {
		return
	}
	if !running {
		select {
		case k.wanted <- struct{}{}:
		default: // somebody has asked
		}
	}
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Timeout)
	defer cancel()
	select {
	case <-attempt:
	case <-ctx.Done():
	}
}

// redacted leaves out a password that somebody has written into a URL.
func redacted(from string) string {
	if u, err := url.Parse(from); err == nil {
		return u.Redacted()
	}
	return from
}
