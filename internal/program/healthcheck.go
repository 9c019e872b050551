package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// ErrNotReady is what [Healthcheck] wraps where the program answers, and says that it is not ready.
var ErrNotReady = errors.New("not ready")

const (
	healthTime = 3 * time.Second // less than what any container's check allows
	healthBody = 4 << 10
)

// Healthcheck asks the program that listens on addr, on this machine, whether it is ready. It is the health check of container images that hold nothing but the program.
func Healthcheck(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%w: address %q: %w", ErrUsage, addr, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost" // listening everywhere, and this is here
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy, whatever the environment says
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, healthBody))
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", ErrNotReady, strings.TrimSpace(string(body)))
	}
	return nil
}
