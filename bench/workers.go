package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

type workersCmd struct {
	Rate int           `default:"1000" help:"Made-up events a second: one order to nine clicks."`
	For  time.Duration `default:"20s" help:"How long the load lasts."`
	Idle time.Duration `default:"5s" help:"How long the services idle before they are looked at."`
}

// workerNames are the services in the order of the table.
func workerNames() []string { return []string{"order", "inventory", "notify", "analytics"} }

// Run starts the four services as processes of their own, and prints what each has in memory when it idles, and at most under a load.
func (c *workersCmd) Run(b *bench) error {
	dir, remove, err := workDir()
	if err != nil {
		return err
	}
	defer remove()
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	if out, err := command(b.ctx, root, "go", "build", "-o", dir+"/", "./cmd/...").CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w: %s", err, out)
	}
	server, err := startNATS(b.ctx, dir)
	if err != nil {
		return err
	}
	defer server.stop()
	ports, err := freePorts(b.ctx, 3+len(workerNames()))
	if err != nil {
		return err
	}
	addr := func(i int) string { return "127.0.0.1:" + strconv.Itoa(ports[i]) }
	args := []string{"up", "--nats", server.url, "--data", filepath.Join(dir, "data"), "--http", addr(0), "--gateway", addr(1), "--smtp", addr(2), "--without", "order,inventory,notify,analytics"}
	for i, name := range workerNames() {
		args = append(args, "--at", name+"="+addr(3+i))
	}
	stopUp, _, err := background(filepath.Join(dir, "tidemark"), args...)
	if err != nil {
		return err
	}
	defer stopUp()
	pids := make(map[string]int)
	for i, name := range workerNames() {
		args := []string{"--nats", server.url, "--http", addr(3 + i), "--log-level", "error"}
		switch name {
		case "order":
			args = append(args, "--gateway", "http://"+addr(1))
		case "notify":
			args = append(args, "--smtp", addr(2), "--smtp-tls", "none")
		}
		stop, pid, err := background(filepath.Join(dir, name), args...)
		if err != nil {
			return err
		}
		defer stop()
		pids[name] = pid
	}
	for i := range workerNames() {
		if err := awaitReady(b.ctx, "http://"+addr(3+i)); err != nil {
			return err
		}
	}
	select {
	case <-time.After(c.Idle):
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	idle := make(map[string]float64)
	for name, pid := range pids {
		if idle[name], _, err = residentMiB(pid); err != nil {
			return err
		}
	}
	load := command(b.ctx, dir, filepath.Join(dir, "tidemark"), "load", "--rate", strconv.Itoa(c.Rate), "--for", c.For.String(), "--wait", "--to", "http://"+addr(0), "--json")
	load.Stderr = os.Stderr
	summary, err := load.Output()
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	for _, name := range workerNames() {
		after, most, err := residentMiB(pids[name])
		if err != nil {
			return err
		}
		b.say("%-9s resident: idle %.0f MiB, after the load %.0f MiB, at most %.0f MiB", name, idle[name], after, most)
	}
	b.say("%s", summary)
	return nil
}

// background starts a program, and returns what stops it.
func background(binary string, args ...string) (stop func(), pid int, err error) {
	cmd := exec.Command(binary, args...) //nolint:noctx // stopped by stop
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait() // the measurement is over
	}, cmd.Process.Pid, nil
}

// awaitReady waits until /readyz agrees.
func awaitReady(ctx context.Context, url string) error {
	err := errors.New("not asked")
	for range 600 {
		if err = ready(ctx, url); err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("%s/readyz: %w", url, err)
}
