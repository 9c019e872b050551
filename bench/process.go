package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// natsProcess is a nats-server in a process of its own, built from the module that the project requires anyway.
type natsProcess struct {
	cmd     *exec.Cmd
	url     string
	profile string // URL of its CPU profile
}

func startNATS(ctx context.Context, dir string, flags ...string) (*natsProcess, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(dir, "nats-server")
	if out, err := command(ctx, root, "go", "build", "-o", binary, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build nats-server: %w: %s", err, out)
	}
	ports, err := freePorts(ctx, 2)
	if err != nil {
		return nil, err
	}
	port, profilePort := ports[0], ports[1]
	flags = append([]string{"--profile", strconv.Itoa(profilePort), "-a", "127.0.0.1", "-p", strconv.Itoa(port), "-js", "-sd", filepath.Join(dir, "store")}, flags...)
	cmd := exec.Command(binary, flags...) //nolint:noctx // stopped by stop
	cmd.Stderr = nil
	cmd.Env = append([]string{"GOGC=400", "GOMEMLIMIT=800MiB"}, os.Environ()...) // as docker-compose.yml and deploy/k8s/nats run it; the last one of a name counts
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start nats-server: %w", err)
	}
	n := &natsProcess{cmd: cmd, url: fmt.Sprintf("nats://127.0.0.1:%d", port), profile: fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/profile", profilePort)}
	if err := n.await(ctx); err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

func (n *natsProcess) await(ctx context.Context) error {
	var err error
	for range 100 {
		var nc *nats.Conn
		if nc, err = nats.Connect(n.url); err == nil {
			nc.Close()
			return nil
		}
		if errors.Is(err, nats.ErrAuthorization) {
			return nil // it answers, and asks who we are
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("nats-server does not answer: %w", err)
}

func (n *natsProcess) stop() {
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	_ = n.cmd.Wait() // it ends by a signal, which is an error to Wait
}

func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	return cmd
}

// freePorts are ports to listen on that stay free until somebody does. The system lends the ports of its ephemeral range to whoever connects out, so one that was free a
// moment ago may be taken; these lie below it, and each process has a hundred of its own.
func freePorts(ctx context.Context, n int) ([]int, error) {
	const lowest, each, processes = 20_000, 100, 120 // Linux lends from 32768 on
	base := lowest + os.Getpid()%processes*each
	var free []int
	for port := base; port < base+each && len(free) < n; port++ {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue // taken
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
		free = append(free, port)
	}
	if len(free) < n {
		return nil, fmt.Errorf("of the ports %d to %d, %d are free, want %d", base, base+each-1, len(free), n)
	}
	return free, nil
}

// cpu is the processor time used so far by this process, and by another.
type cpu struct{ self, other time.Duration }

func cpuNow(pid int) cpu {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return cpu{}
	}
	return cpu{self: time.Duration(u.Utime.Nano() + u.Stime.Nano()), other: processCPU(pid)}
}

func (c cpu) since(before cpu) cpu {
	return cpu{self: c.self - before.self, other: c.other - before.other}
}

// processCPU reads /proc: user and system time are fields 14 and 15, in ticks of 10 ms.
func processCPU(pid int) time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// residentMiB is the resident memory of a process, now and at most since its start.
func residentMiB(pid int) (now, highest float64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(raw)) {
		name, rest, _ := strings.Cut(line, ":")
		into := map[string]*float64{"VmRSS": &now, "VmHWM": &highest}[name]
		if into == nil {
			continue
		}
		kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			return 0, 0, fmt.Errorf("process %d: %s: %w", pid, name, err)
		}
		*into = kib / 1024
	}
	return now, highest, nil
}

// download writes what a URL answers to a file.
func download(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, res.Body)
	return errors.Join(err, out.Close())
}

// profileBoth runs do and writes CPU profiles of this process and of nats-server to file.ours and file.nats.
func profileBoth(ctx context.Context, server *natsProcess, file string, do func() error) error {
	ours, err := os.Create(file + ".ours")
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(ours); err != nil {
		return errors.Join(err, ours.Close())
	}
	theirs := make(chan error, 1)
	go func() { theirs <- download(ctx, server.profile+"?seconds=2", file+".nats") }()
	err = do()
	pprof.StopCPUProfile()
	return errors.Join(err, <-theirs, ours.Close())
}

// withoutGarbageCollection lets this process, which measures, not collect garbage until it has used much memory, or until the function that it returns is called. A collector takes every core that is idle for a
// moment, and what is measured shares them.
func withoutGarbageCollection() (back func()) {
	const most = 4 << 30
	runtime.GC()
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(most)
	return func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
}
