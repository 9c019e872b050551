package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type memoryCmd struct {
	CSV  string        `required:"" help:"Invoices to load (CSV, .gz or not)."`
	Idle time.Duration `default:"10s" help:"How long it idles before it is looked at."`
}

// Run builds tidemark, starts it on an empty directory, and prints its resident memory when idle and after the load.
func (c *memoryCmd) Run(b *bench) error {
	dir, remove, err := workDir()
	if err != nil {
		return err
	}
	defer remove()
	csv, err := filepath.Abs(c.CSV)
	if err != nil {
		return err
	}
	up, url, err := startUp(b.ctx, dir)
	if err != nil {
		return err
	}
	defer func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		_ = up.Wait() // the measurement is over
	}()
	select {
	case <-time.After(c.Idle):
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	idle, _, err := residentMiB(up.Process.Pid)
	if err != nil {
		return err
	}
	load := command(b.ctx, dir, filepath.Join(dir, "tidemark"), "load", "--csv", csv, "--stock", "500", "--speed", "max", "--wait", "--to", url, "--json")
	load.Stderr = os.Stderr
	summary, err := load.Output()
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	after, highest, err := residentMiB(up.Process.Pid)
	if err != nil {
		return err
	}
	b.say("resident memory of up: idle %.0f MiB, after the load %.0f MiB, at most %.0f MiB", idle, after, highest)
	b.say("%s", strings.TrimSpace(string(summary)))
	return nil
}

// startUp builds and starts tidemark up on free ports and waits until it says that it is ready.
func startUp(ctx context.Context, dir string) (*exec.Cmd, string, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, "", err
	}
	binary := filepath.Join(dir, "tidemark")
	if out, err := command(ctx, root, "go", "build", "-o", binary, "./cmd/tidemark").CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("build tidemark: %w: %s", err, out)
	}
	ports, err := freePorts(ctx, 1)
	if err != nil {
		return nil, "", err
	}
	addr := "127.0.0.1:" + strconv.Itoa(ports[0])
	up := exec.Command(binary, "up", "--http", addr, "--nats-addr", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--smtp", "127.0.0.1:0", "--data", filepath.Join(dir, "data")) //nolint:noctx // the caller stops it
	up.Stderr = os.Stderr
	stdout, err := up.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := up.Start(); err != nil {
		return nil, "", err
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "ready") {
			go func() {
				for lines.Scan() {
				}
			}()
			return up, "http://" + addr, ready(ctx, "http://"+addr)
		}
	}
	return nil, "", fmt.Errorf("tidemark up ended before it was ready: %w", up.Wait())
}

// ready asks /readyz, which must agree with what up printed.
func ready(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("up says that it is ready, /readyz says %s", res.Status)
	}
	return nil
}
