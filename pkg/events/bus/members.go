package bus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// Member is one member of a consumer group as it describes itself.
type Member struct {
	Name       string         // <host>-<process>-<number>
	Since      time.Time      // it runs since then
	Heard      time.Time      // its last heartbeat
	Partitions []int          // that are its own to read; the broker makes it their owner with the first event
	Pins       map[int]string // the broker's pin of each partition that it owns
}

// Members reads who is there, by group. The error is or wraps [jetstream.ErrBucketNotFound] where the topology has no bucket for it.
func Members(ctx context.Context, js jetstream.JetStream) (map[string][]Member, error) {
	kv, _, err := openMembers(ctx, js)
	if err != nil {
		return nil, err
	}
	watch, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	defer func() { _ = watch.Stop() }() // it has told all that we wanted
	out := make(map[string][]Member)
	for {
		select {
		case e := <-watch.Updates():
			if e == nil { // the end of what is there, or of the connection
				return out, nil
			}
			group, name, _ := strings.Cut(e.Key(), ".")
			var h heartbeat
			if err := json.Unmarshal(e.Value(), &h); err != nil {
				h = heartbeat{} // of another version: it is there, and that is all we know
			}
			out[group] = append(out[group], Member{Name: name, Since: h.Since, Heard: e.Created(), Partitions: h.Partitions, Pins: h.Pins})
		case <-ctx.Done():
			return nil, fmt.Errorf("read the members: %w", ctx.Err())
		}
	}
}

// PartitionOf says which partition of which group a consumer serves, by what [Apply] noted on it.
func PartitionOf(c jetstream.ConsumerConfig) (group string, partition int, ok bool) {
	group = c.Metadata[metadataGroup]
	number, found := strings.CutPrefix(c.Durable, group+"-")
	partition, err := strconv.Atoi(number)
	return group, partition, group != "" && found && err == nil
}

// Pin is the broker's name for the member that owns the partition, which [Member] knows too; empty where nobody owns it.
func Pin(info *jetstream.ConsumerInfo) string { return pinned(info) }

// openMembers finds the bucket and the time after which it forgets a heartbeat.
func openMembers(ctx context.Context, js jetstream.JetStream) (jetstream.KeyValue, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	kv, err := js.KeyValue(ctx, events.BucketMembers)
	if err != nil {
		return nil, 0, fmt.Errorf("open the members' bucket: %w", err)
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read the members' bucket: %w", err)
	}
	ttl := status.TTL()
	if ttl <= 0 {
		return nil, 0, fmt.Errorf("%w: bucket %s forgets nothing, so a dead member would stay", ErrTopology, events.BucketMembers)
	}
	return kv, ttl, nil
}

// memberName says where a member runs, for people, and differs from that of any other.
func memberName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "host"
	}
	host, _, _ = strings.Cut(host, ".")
	var number [2]byte
	_, _ = rand.Read(number[:]) // never fails
	return events.Token(host) + "-" + strconv.Itoa(os.Getpid()) + "-" + hex.EncodeToString(number[:])
}
