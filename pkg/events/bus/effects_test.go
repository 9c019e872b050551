package bus_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// The members of these tests are processes that have an effect: for each event they append a line to a log of its key, fenced by the log's last sequence, as a service does that writes
// into an event store. So the log says whether each event had its effect once and in order, whoever handled it and however often.

const (
	effectsStream     = "EFFECTS"
	effectsPartitions = 8
	fencedSubject     = "fenced" // is told of a write that the lock refused
)

// effectsTopology has the times that the services have.
func effectsTopology() events.Topology {
	t := topology(effectsPartitions)
	full := events.DefaultTopology(effectsPartitions)
	t.Groups[0].PinnedTTL = full.Groups[0].PinnedTTL
	return t
}

// effect is one line of a key's log.
type effect struct {
	version   uint64
	partition int
	sequence  uint64 // of the event
	member    string
}

func (e effect) String() string {
	return fmt.Sprintf("%d %d %d %s", e.version, e.partition, e.sequence, e.member)
}

func parseEffect(data []byte) (e effect, err error) {
	_, err = fmt.Sscan(string(data), &e.version, &e.partition, &e.sequence, &e.member)
	return e, err
}

// runEffects is the program of a member that has effects. It prints its name when it reads, and ends cleanly at SIGTERM.
func runEffects(url string) error {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	top := effectsTopology()
	h := &effectHandler{js: js, nc: nc}
	g, err := bus.NewGroup(bus.GroupConfig{Group: top.Groups[0], Handler: h.handle}, bus.Deps{JS: js, Subjects: top.Subjects()})
	if err != nil {
		return err
	}
	h.member = g.Member()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		<-g.Ready()
		fmt.Println(g.Member())
	}()
	return g.Run(ctx)
}

type effectHandler struct {
	js     jetstream.JetStream
	nc     *nats.Conn
	member string
}

func (h *effectHandler) handle(ctx context.Context, d bus.Delivery) error {
	subject := "effects." + d.Event.Key()
	last, lock := uint64(0), uint64(0)
	stream, err := h.js.Stream(ctx, effectsStream)
	if err != nil {
		return err
	}
	m, err := stream.GetLastMsgForSubject(ctx, subject)
	switch {
	case err == nil:
		e, err := parseEffect(m.Data)
		if err != nil {
			return err
		}
		last, lock = e.version, m.Sequence
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		return err
	}
	if d.Event.Version <= last {
		return nil // its effect is there
	}
	// A pause of the process falls in here most often: between what it has read and what it writes.
	time.Sleep(time.Duration(1+d.Sequence%4) * time.Millisecond) // work, not waiting
	line := effect{version: d.Event.Version, partition: d.Partition, sequence: d.Sequence, member: h.member}
	_, err = h.js.Publish(ctx, subject, []byte(line.String()), jetstream.WithExpectLastSequencePerSubject(lock))
	if apiErr, ok := errors.AsType[*jetstream.APIError](err); ok && apiErr.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		_ = h.nc.Publish(fencedSubject, []byte(h.member)) // a number for the report
	}
	return err
}

// effectsProcess is a member in a process of its own.
type effectsProcess struct {
	cmd  *exec.Cmd
	name string
}

func (f *fixture) effectsChild() *effectsProcess {
	f.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), childURL+"="+f.server.URL(), childRole+"=effects")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	p := &effectsProcess{cmd: cmd}
	f.Cleanup(func() {
		p.signal(f, syscall.SIGKILL)
		_ = cmd.Wait() // says that it was killed
	})
	name, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		f.Fatal(err)
	}
	p.name = strings.TrimSpace(name)
	return p
}

func (p *effectsProcess) signal(f *fixture, s syscall.Signal) {
	f.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		f.Error(err)
	}
}
