package natskeys_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/internal/natskeys"
	"github.com/tidemark/tidemark/pkg/events"
)

// BenchmarkPublish is what the server's look into the order service's rights costs a message, each with a subject of its own, as orders have: the server remembers its verdict
// on a subject, which does not help here. Nothing is stored. cpu-ns/op is the processor time of client and server together.
func BenchmarkPublish(b *testing.B) {
	for _, users := range []bool{false, true} {
		b.Run(fmt.Sprintf("users=%t", users), func(b *testing.B) {
			nc := publisher(b, users)
			subjects := make([]string, 10_000)
			for i := range subjects {
				subjects[i] = "orders." + strconv.Itoa(i%8) + "." + events.DeriveID(strconv.Itoa(i))
			}
			payload := make([]byte, 300)
			before := processorTime(b)
			for i := 0; b.Loop(); i++ {
				if err := nc.Publish(subjects[i%len(subjects)], payload); err != nil {
					b.Fatal(err)
				}
			}
			if err := nc.Flush(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
			if err := nc.LastError(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func publisher(b *testing.B, users bool) *nats.Conn {
	b.Helper()
	dir := b.TempDir()
	text, opts := "listen: \"127.0.0.1:-1\"\n", []nats.Option(nil)
	if users {
		topology := events.DefaultTopology(0)
		file, err := os.Create(filepath.Join(dir, "users.conf"))
		if err != nil {
			b.Fatal(err)
		}
		if err := natskeys.Configuration(file, dir, topology.Users()); err != nil {
			b.Fatal(err)
		}
		_ = file.Close()
		nkey, err := nats.NkeyOptionFromSeed(natskeys.File(dir, events.ServiceOrder))
		if err != nil {
			b.Fatal(err)
		}
		text, opts = text+"include users.conf\n", append(opts, nkey)
	}
	conf := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	o, err := server.ProcessConfigFile(conf)
	if err != nil {
		b.Fatal(err)
	}
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(o)
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(15 * time.Second) {
		b.Fatal("not ready")
	}
	nc, err := nats.Connect("nats://"+s.Addr().(*net.TCPAddr).String(), opts...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
