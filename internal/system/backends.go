package system

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidemark/tidemark/internal/run"
)

const (
	lookEvery = 250 * time.Millisecond // an instance that stops says so for two seconds before it does
	lookTime  = time.Second
)

// backends are the instances of a service that runs elsewhere, of which one is passed requests: the same one for as long as it is ready, so that a customer reads what he has just
// written. An instance that is being replaced says in /readyz that it stops, and still serves while requests go to another one.
//
// A host name may stand for several addresses, as where a service is scaled in containers.
type backends struct {
	service string
	hosts   []string // HOST:PORT, in the order of preference
	client  *http.Client
	log     *slog.Logger
	current atomic.Pointer[string] // IP:PORT, or HOST:PORT while nothing is known
	wake    chan struct{}
}

func newBackends(service, at string, log *slog.Logger) *backends {
	b := &backends{
		service: service, hosts: strings.Split(at, ","), log: log, wake: make(chan struct{}, 1),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: lookTime},
	}
	b.current.Store(&b.hosts[0])
	return b
}

// addr is the instance that requests go to.
func (b *backends) addr() string { return *b.current.Load() }

// failed makes it look at once.
func (b *backends) failed() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Ready holds at once: requests are passed on from the beginning.
func (b *backends) Ready() <-chan struct{} { return run.Closed() }

// Run looks for a ready instance until ctx ends.
func (b *backends) Run(ctx context.Context) error {
	if len(b.hosts) == 1 && fixed(b.hosts[0]) {
		<-ctx.Done() // there is nothing to choose
		return nil
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		b.look(ctx)
		select {
		case <-tick.C:
		case <-b.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// look chooses: the instance of now if it is ready, else the first that is, else any that there is.
func (b *backends) look(ctx context.Context) {
	now := b.addr()
	all := b.resolve(ctx)
	if slices.Contains(all, now) && b.ready(ctx, now) || len(all) == 0 {
		return
	}
	for _, addr := range all {
		if addr != now && b.ready(ctx, addr) {
			b.choose(addr)
			return
		}
	}
	if !slices.Contains(all, now) {
		b.choose(all[0])
	}
}

func (b *backends) choose(addr string) {
	b.log.Info("requests go to another instance", "service", b.service, "address", addr)
	b.current.Store(&addr)
}

// resolve finds the addresses of all hosts; a host that has none now is left out.
func (b *backends) resolve(ctx context.Context) (all []string) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	for _, at := range b.hosts {
		host, port, err := net.SplitHostPort(at)
		if err != nil || net.ParseIP(host) != nil {
			all = append(all, at)
			continue
		}
		ips, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			continue
		}
		slices.Sort(ips)
		for _, ip := range ips {
			all = append(all, net.JoinHostPort(ip, port))
		}
	}
	return all
}

func (b *backends) ready(ctx context.Context, addr string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := b.client.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close() // the status is all
	return res.StatusCode == http.StatusOK
}

// fixed reports whether an address is one instance for good.
func fixed(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && net.ParseIP(host) != nil
}
