package bus

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Difference is one setting that the broker holds in another way than the topology declares it. Setting is its name in the broker's own
// configuration, as `nats stream info --json` shows it.
type Difference struct {
	Setting string `json:"setting"`
	Stored  string `json:"stored"`
	Wanted  string `json:"wanted"`
	Loses   bool   `json:"loses,omitempty"` // the new value makes the broker forget what is stored
	Cure    string `json:"cure,omitempty"`  // set where the change is refused: what to do instead
}

func (d Difference) String() string {
	return fmt.Sprintf("%s is %s, must be %s", d.Setting, d.Stored, d.Wanted)
}

// keepStream is the declared configuration with what the topology says nothing about left as it is stored: where a stream is placed, how it is
// compressed and to whom it is republished are an operator's decisions.
func keepStream(stored, declared jetstream.StreamConfig) jetstream.StreamConfig {
	c := stored
	c.Description, c.Subjects, c.Storage, c.Replicas, c.Retention = declared.Description, declared.Subjects, declared.Storage, declared.Replicas, declared.Retention
	c.MaxAge, c.MaxBytes, c.MaxMsgs, c.MaxMsgsPerSubject, c.Duplicates = declared.MaxAge, declared.MaxBytes, declared.MaxMsgs, declared.MaxMsgsPerSubject, declared.Duplicates
	c.Discard, c.DiscardNewPerSubject = declared.Discard, declared.DiscardNewPerSubject
	c.DenyDelete, c.DenyPurge, c.AllowRollup = declared.DenyDelete, declared.DenyPurge, declared.AllowRollup
	c.AllowAtomicPublish, c.AllowMsgSchedules, c.AllowMsgTTL, c.AllowDirect = declared.AllowAtomicPublish, declared.AllowMsgSchedules, declared.AllowMsgTTL, declared.AllowDirect
	c.SubjectTransform, c.Sources = declared.SubjectTransform, sameSources(stored.Sources, declared.Sources)
	c.Metadata = merged(stored.Metadata, declared.Metadata)
	return c
}

// sameSources keeps the stored sources where they copy the same streams: how those are reached, and from where on, is not declared.
func sameSources(stored, declared []*jetstream.StreamSource) []*jetstream.StreamSource {
	key := func(s *jetstream.StreamSource) string { return s.Name + " " + s.FilterSubject }
	keys := func(sources []*jetstream.StreamSource) []string {
		out := make([]string, 0, len(sources))
		for _, s := range sources {
			out = append(out, key(s))
		}
		slices.Sort(out)
		return out
	}
	if slices.Equal(keys(stored), keys(declared)) {
		return stored
	}
	return declared
}

// keepConsumer is the same for a consumer. Where it began is the past: its ack floor says where it goes on.
func keepConsumer(stored, declared jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	c := stored
	c.Description, c.FilterSubject, c.Replicas, c.AckPolicy, c.AckWait = declared.Description, declared.FilterSubject, declared.Replicas, declared.AckPolicy, declared.AckWait
	c.MaxDeliver, c.MaxAckPending, c.BackOff, c.FilterSubjects = declared.MaxDeliver, declared.MaxAckPending, declared.BackOff, declared.FilterSubjects
	c.PriorityPolicy, c.PriorityGroups, c.PinnedTTL = declared.PriorityPolicy, declared.PriorityGroups, declared.PinnedTTL
	c.Metadata = merged(stored.Metadata, declared.Metadata)
	return c
}

func merged(stored, declared map[string]string) map[string]string {
	out := maps.Clone(stored)
	if out == nil {
		out = make(map[string]string, len(declared))
	}
	maps.Copy(out, declared)
	return out
}

// differences compares two configurations of one kind, setting by setting as they go over the wire.
func differences(stored, wanted any) []Difference {
	a, b := settings(stored), settings(wanted)
	all := maps.Clone(a)
	maps.Copy(all, b)
	var out []Difference
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if a[name] != b[name] {
			out = append(out, Difference{Setting: name, Stored: orAbsent(a[name]), Wanted: orAbsent(b[name])})
		}
	}
	return out
}

// settings are a configuration's settings by name, each as text; metadata has a setting an entry. The server's own notes are left out.
func settings(config any) map[string]string {
	raw, _ := json.Marshal(config) // plain structs of the client: can't fail
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(raw, &fields)
	out := make(map[string]string, len(fields))
	for name, value := range fields {
		if name == "metadata" {
			var notes map[string]string
			_ = json.Unmarshal(value, &notes)
			for key, note := range notes {
				if !strings.HasPrefix(key, "_nats.") {
					out["metadata."+key] = note
				}
			}
			continue
		}
		out[name] = settingText(name, string(value))
	}
	return out
}

// settingText writes a setting for people: durations are nanoseconds on the wire.
func settingText(name, value string) string {
	switch name {
	case "max_age", "duplicate_window", "ack_wait", "priority_timeout", "subject_delete_marker_ttl":
		var d time.Duration
		if _, err := fmt.Sscan(value, &d); err == nil {
			return d.String()
		}
	}
	return strings.Trim(value, `"`)
}

// absent is what a difference shows for a setting that is not there.
const absent = "unset"

func orAbsent(s string) string {
	if s == "" {
		return absent
	}
	return s
}
