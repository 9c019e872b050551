//go:build long

package store_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// brokerDir tells a child of this test that it is a broker, and where it keeps its streams.
const brokerDir = "TIDEMARK_TEST_BROKER_DIR"

// TestBrokerProcess is the broker, in a process that can be killed. It is no test by itself.
func TestBrokerProcess(t *testing.T) {
	dir := os.Getenv(brokerDir)
	if dir == "" {
		return // it is the child of TestLongTheBrokerIsKilled, and nothing by itself
	}
	port := server.RANDOM_PORT
	if at := os.Getenv(brokerDir + "_PORT"); at != "" {
		port = portOf(t, at)
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, StoreDir: dir, JetStream: true, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(waitLimit) {
		t.Fatal("not ready")
	}
	_, _ = os.Stdout.WriteString(s.ClientURL() + "\n")
	select {} // until it is killed
}

func portOf(t *testing.T, url string) (port int) {
	t.Helper()
	for _, c := range url[strings.LastIndexByte(url, ':')+1:] {
		port = port*10 + int(c-'0')
	}
	return port
}

// broker starts the child and returns where it listens, and how to kill it.
func broker(t *testing.T, dir, url string) (string, func()) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run", "^TestBrokerProcess$")
	child.Env = append(os.Environ(), brokerDir+"="+dir, brokerDir+"_PORT="+url)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		_ = child.Process.Kill() // SIGKILL
		_ = child.Wait()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "nats://") {
		t.Fatalf("the broker says %q: %v", line, err)
	}
	return strings.TrimSpace(line), kill
}

// The broker's process is killed in the middle of commands, again and again, and started again on what it had stored. Every command that was acknowledged is in the log
// once, and no update is lost. go test -tags long
func TestLongTheBrokerIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, kill := broker(t, dir, "")
	connect := func() *nats.Conn {
		nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	js := jetStream(t, connect())
	topology := ledgerTopology()
	topology.Buckets = []events.Bucket{{Name: snapshotBucket}}
	if err := bus.Apply(testContext(t), js, topology, 1); err != nil {
		t.Fatal(err)
	}
	bucket, err := store.NewSnapshotBucket(testContext(t), js, snapshotBucket, noTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	encoder := bus.NewEncoder(testRegistry(t), noTelemetry)
	open := func() store.Aggregate[int64] {
		a := counting(store.New(jetStream(t, connect()), ledger, encoder, noTelemetry))
		a.Snapshots = &store.AggregateSnapshots[int64]{Bucket: bucket, Fold: "count/1", Every: 20}
		return a
	}

	var acknowledged atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for w := range 4 {
		a := open()
		wg.Go(func() {
			for n := w; ctx.Err() == nil; n++ {
				size := int64(1 + n%3/2) // now and then two in one batch
				_, err := a.Execute(ctx, "ledger.hot", count(size == 2))
				switch {
				case err == nil:
					acknowledged.Add(size)
				case ctx.Err() != nil, errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrUnknownOutcome):
				default:
					t.Errorf("command: %v", err)
					return
				}
			}
		})
	}
	const kills = 15
	for range kills {
		before := acknowledged.Load()
		eventstest.Eventually(t, waitLimit, "commands go on", func() bool { return acknowledged.Load() > before+30 })
		kill()
		_, kill = broker(t, dir, url)
	}
	before := acknowledged.Load()
	eventstest.Eventually(t, waitLimit, "commands go on", func() bool { return acknowledged.Load() > before+30 })
	stop()
	wg.Wait()
	whole := open()
	short, err := whole.Load(testContext(t), "ledger.hot")
	whole.Snapshots = nil
	state, err2 := whole.Load(testContext(t), "ledger.hot") // fails where an event does not follow the one before
	if err != nil || err2 != nil || short != state || state.Value < acknowledged.Load() {
		t.Errorf("%d events were acknowledged, stored: %+v, %v; with the snapshot: %+v, %v", acknowledged.Load(), state, err2, short, err)
	}
	t.Logf("%d kills, %d events acknowledged, %d stored", kills, acknowledged.Load(), state.Value)
}
