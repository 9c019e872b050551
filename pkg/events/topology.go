package events

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The streams, by name. What each is for stands in [DefaultTopology].
const (
	StreamOrders      = "ORDERS"
	StreamStock       = "STOCK"
	StreamNotices     = "NOTICES"
	StreamClicks      = "CLICKS"
	StreamTicks       = "TICKS"
	StreamTimeline    = "TIMELINE"
	StreamWindows     = "WINDOWS"
	StreamLate        = "LATE"
	StreamAlerts      = "ALERTS"
	StreamDLQ         = "DLQ"
	StreamDLQCtl      = "DLQCTL"
	StreamTimers      = "TIMERS"
	BucketContacts    = "CONTACTS"
	BucketSnapshots   = "SNAPSHOTS"
	BucketMembers     = "MEMBERS"
	BucketProjections = "PROJECTIONS"
)

// The consumer groups, by name.
const (
	GroupInventory      = "inventory"
	GroupOrderStock     = "order-stock"
	GroupOrderDeadlines = "order-deadlines"
	GroupNotify         = "notify"
	GroupAnalytics      = "analytics"
)

// The services that publish and read, by name.
const (
	ServiceOrder     = "order"
	ServiceInventory = "inventory"
	ServiceNotify    = "notify"
	ServiceAnalytics = "analytics"
)

// DefaultPartitions is how many partitions a partitioned stream has. It is fixed when the stream is made.
const DefaultPartitions = 8

// TopologyVersion is noted on every stream. It rises with each change of a setting that an older program must not put back, so that a program that is rolled back
// refuses instead.
const TopologyVersion = 1

// SubjectTick is the subject of the heartbeats in TICKS and TIMELINE; SubjectTickSchedule holds the schedule that makes them.
const (
	SubjectTick         = "ticks.beat"
	SubjectTickSchedule = "ticks.schedule"
)

// Topology is the one declaration of every stream, bucket and consumer group. It is data: pkg/events/bus makes it real.
type Topology struct {
	Partitions int
	Streams    []Stream
	Channels   []Channel
	Groups     []Group
	Buckets    []Bucket
}

// Stream declares one JetStream stream. Limits retention and file storage hold for all of them.
type Stream struct {
	Name        string
	Description string
	Subjects    []string
	Sources     []Source // a stream with sources has no subjects of its own

	Partitions int // how many partitions its subjects name; fixed when it is made; 0: none

	TransformFrom, TransformTo string // the server writes the partition where producers are not ours

	MaxAge            time.Duration // 0: for ever
	MaxBytes          int64         // 0: no limit
	MaxMsgs           int64         // 0: no limit
	MaxMsgsPerSubject int64         // 0: no limit
	DiscardNew        bool          // a full stream refuses instead of forgetting
	DuplicateWindow   time.Duration // how long Nats-Msg-Id is remembered; 0: the server's 2 minutes

	DenyDelete, DenyPurge bool
	AtomicBatches         bool // several messages in one commit
	Schedules             bool // messages that are published later; never on an event store: it clears DenyPurge
	TTL                   bool // single messages may expire

	Publishers []string // services that publish here
	Readers    []string // services that read here, and how:
	Lookups    []string // those of them that read single messages and subjects
	Followers  []string // those of them that read it from end to end, with throw-away consumers of their own
	Deleters   []string // services that remove single messages
	Outside    bool     // producers that are not ours publish here too
	GroupToken int      // which token of its subjects names a consumer group, from 1: a service writes those of its own groups; 0: none
	Fired      []string // those of its subjects that the broker itself publishes to, from schedules
	Heard      []string // those of its subjects that members of the group subscribe to as well
}

// Source is a stream that another one copies, subjects kept.
type Source struct {
	Stream string
	Filter string // empty: all subjects
}

// Group declares one consumer group: one pinned durable consumer a partition.
type Group struct {
	Name        string
	Description string
	Stream      string
	Service     string // the service whose group it is
	Filter      string // "{p}" stands for the partition; empty: everything, in one partition
	Partitions  int
	Single      bool // one active member, the others stand by
	FromNow     bool // begins, when it is made, behind what is stored then, and can't be moved back beyond that; else at the beginning
	OwnPosition bool // its reader keeps its place with what it computes: the consumer follows it, and moving the consumer moves nothing
	Independent bool // its events don't build on each other: one that failed does not hold back the later ones of its key
	AckWait     time.Duration
	MaxPending  int
	PinnedTTL   time.Duration
	Handles     []string // the event types that its handler answers
}

// Consumer is the durable's name of one partition.
func (g Group) Consumer(p int) string { return g.Name + "-" + strconv.Itoa(p) }

// FilterOf is the subject filter of one partition.
func (g Group) FilterOf(p int) string { return strings.ReplaceAll(g.Filter, "{p}", strconv.Itoa(p)) }

// Bucket declares a key-value bucket, or an object store where Objects is set.
type Bucket struct {
	Name        string
	Description string
	Objects     bool
	TTL         time.Duration // an entry that is not written again is forgotten after it, and who watches is told; 0: never
	Cache       bool          // what it holds is made again from the logs, so a backup leaves it out
	Publishers  []string
	Readers     []string
	GroupKeys   bool // the first token of a key names a consumer group: a service knows the entries of its own groups
}

// Stream finds a stream by name.
func (t *Topology) Stream(name string) (Stream, bool) {
	for _, s := range t.Streams {
		if s.Name == name {
			return s, true
		}
	}
	return Stream{}, false
}

// Group finds a consumer group by name.
func (t *Topology) Group(name string) (Group, bool) {
	for _, g := range t.Groups {
		if g.Name == name {
			return g, true
		}
	}
	return Group{}, false
}

const (
	pinnedTTL  = 2 * time.Second  // how long a silent owner keeps its partition
	memberTTL  = 3 * time.Second  // how long a silent member keeps its share of the partitions: the take-over time after a crash, but for a moment
	ackWait    = 60 * time.Second // longer than any handler with its retries; it does not set the take-over time
	maxPending = 2048
)

// DefaultTopology is Tidemark's declaration with n partitions (0 means [DefaultPartitions]).
func DefaultTopology(n int) Topology {
	if n <= 0 {
		n = DefaultPartitions
	}
	parts := strconv.Itoa(n)
	group := func(name, stream, service, filter, description string) Group {
		return Group{
			Name: name, Stream: stream, Service: service, Filter: filter, Partitions: n,
			Description: description, AckWait: ackWait, MaxPending: maxPending, PinnedTTL: pinnedTTL, Handles: handledBy(name),
		}
	}
	inventory := group(GroupInventory, StreamOrders, ServiceInventory, "orders.{p}.*", "reserves, commits and releases stock")
	inventory.Single = true // one lock a warehouse: a second decider only makes conflicts
	analytics := group(GroupAnalytics, StreamTimeline, ServiceAnalytics, "", "counts by event time, in the order of the log")
	analytics.Partitions, analytics.Single, analytics.OwnPosition = 1, true, true
	analytics.Independent = true // it skips what it can't read, in its place
	notify := group(GroupNotify, StreamOrders, ServiceNotify, "orders.{p}.*", "tells the customer")
	notify.Independent = true // a mail that can't be sent does not hold back the next one
	const day = 24 * time.Hour
	return Topology{
		Partitions: n,
		Streams: []Stream{
			{
				Name: StreamOrders, Partitions: n, Subjects: []string{"orders.*.*"}, DenyDelete: true, DenyPurge: true, AtomicBatches: true,
				Description: "the order event store; never expires", Publishers: []string{ServiceOrder},
				Readers: []string{ServiceOrder, ServiceInventory, ServiceNotify},
				Lookups: []string{ServiceOrder, ServiceNotify}, Followers: []string{ServiceOrder},
			},
			{
				Name: StreamStock, Partitions: n, Subjects: []string{"stock.main.*.*"}, DenyDelete: true, DenyPurge: true, AtomicBatches: true,
				Description: "the event store of the warehouse main; its lock is the stream's last sequence", Publishers: []string{ServiceInventory},
				Readers: []string{ServiceInventory, ServiceOrder},
				Lookups: []string{ServiceInventory, ServiceOrder}, Followers: []string{ServiceInventory, ServiceOrder},
			},
			{
				Name: StreamNotices, Partitions: n, Subjects: []string{"notices.*.*.*.*"}, DenyDelete: true, DenyPurge: true,
				Description: "what was sent to whom", Publishers: []string{ServiceNotify}, Readers: []string{ServiceNotify},
				Lookups: []string{ServiceNotify},
			},
			{
				Name: StreamClicks, Partitions: n, Subjects: []string{"clicks.*"}, TransformFrom: "clicks.*", TransformTo: "clicks.{{partition(" + parts + ",1)}}.{{wildcard(1)}}",
				MaxAge: 7 * day, MaxBytes: 1 << 30, Description: "the clickstream; bounded by age and size", Publishers: []string{ServiceAnalytics},
				Outside: true,
			},
			{
				Name: StreamTicks, Subjects: []string{SubjectTickSchedule, SubjectTick}, Schedules: true, MaxMsgsPerSubject: 60, Fired: []string{SubjectTick},
				Description: "one heartbeat a second, from a schedule",
			},
			{
				Name: StreamTimeline, Sources: []Source{{Stream: StreamOrders}, {Stream: StreamClicks}, {Stream: StreamTicks, Filter: SubjectTick}},
				MaxAge: 30 * day, Description: "orders, clicks and heartbeats in one total order: analytics' input and only clock", Readers: []string{ServiceAnalytics},
				Lookups: []string{ServiceAnalytics}, Followers: []string{ServiceAnalytics},
			},
			{
				Name: StreamWindows, Subjects: []string{"windows.*.*.*", "commit.*.*"}, MaxMsgsPerSubject: 100, AtomicBatches: true,
				Description: "window results with revisions, and the commit records that make them exactly-once", Publishers: []string{ServiceAnalytics}, Readers: []string{ServiceAnalytics},
				Lookups: []string{ServiceAnalytics}, Followers: []string{ServiceAnalytics},
			},
			{
				Name: StreamLate, Subjects: []string{"late.*.*"}, MaxAge: 30 * day, Description: "events that came after their window had closed",
				Publishers: []string{ServiceAnalytics}, Readers: []string{ServiceAnalytics},
				Lookups: []string{ServiceAnalytics}, Followers: []string{ServiceAnalytics},
			},
			{
				Name: StreamAlerts, Subjects: []string{"alerts.*.*.*"}, MaxAge: 30 * day, Description: "what somebody should look at: one message an alert, however often it is raised",
				Publishers: []string{ServiceAnalytics},
			},
			{
				Name: StreamDLQ, Subjects: []string{"dlq.*.*.*"}, DiscardNew: true, MaxMsgs: 100_000, MaxMsgsPerSubject: 1000,
				Description: "the dead letters: one subject a group, partition and key; a letter is the lock on its key", Publishers: allServices(), Readers: allServices(),
				Lookups: allServices(), Deleters: allServices(), GroupToken: 2,
			},
			{
				Name: StreamDLQCtl, Subjects: []string{"dlqctl.letter.*.*", "dlqctl.job.*.*", "dlqctl.crash.*.*"}, DenyDelete: true,
				Description: "each message is a letter's or a job's new state and its audit entry; and what is being tried after a crash", Publishers: allServices(), Readers: allServices(),
				Lookups: allServices(), GroupToken: 3, Heard: []string{"dlqctl.job.*.*"},
			},
			{
				Name: StreamTimers, Partitions: n, Subjects: []string{"timers.*.*", "timeouts.*.*"}, Schedules: true, MaxAge: 7 * day,
				Description: "one deadline an order, never cancelled", Publishers: []string{ServiceOrder}, Readers: []string{ServiceOrder},
				Fired: []string{"timeouts.*.*"},
			},
		},
		Channels: defaultChannels(),
		Groups: []Group{
			inventory,
			group(GroupOrderStock, StreamStock, ServiceOrder, "stock.main.{p}.*", "asks for payment when stock is reserved, and ends the order"),
			group(GroupOrderDeadlines, StreamTimers, ServiceOrder, "timeouts.{p}.*", "ends the order that is still open at its deadline"),
			notify,
			analytics,
		},
		Buckets: []Bucket{
			{Name: BucketContacts, Description: "where customers can be reached; entries can be deleted", Publishers: []string{ServiceOrder}, Readers: []string{ServiceNotify}},
			{Name: BucketProjections, Cache: true, Description: "which version of each read model answers, and what its snapshot holds", Publishers: []string{ServiceOrder}, Readers: []string{ServiceOrder}},
			{Name: BucketSnapshots, Cache: true, Description: "folded state, a disposable cache", Objects: true, Publishers: []string{ServiceOrder, ServiceInventory}, Readers: []string{ServiceOrder, ServiceInventory}},
			{Name: BucketMembers, Cache: true, Description: "the members of consumer groups: a heartbeat each", TTL: memberTTL, Publishers: allServices(), Readers: allServices(), GroupKeys: true},
		},
	}
}

func allServices() []string {
	return []string{ServiceOrder, ServiceInventory, ServiceNotify, ServiceAnalytics}
}

// Subjects spells the subjects of one topology. Nothing else in the project writes a subject.
type Subjects struct{ partitions int }

// Subjects returns the speller for the topology's partition count.
func (t *Topology) Subjects() Subjects { return Subjects{partitions: t.Partitions} }

// PartitionOf is the partition of a key (not yet encoded).
func (s Subjects) PartitionOf(key string) int { return Partition(Token(key), s.partitions) }

func (s Subjects) keyed(prefix, key string) string {
	token := Token(key)
	return prefix + "." + strconv.Itoa(Partition(token, s.partitions)) + "." + token
}

// Order is the subject of an order's events.
func (s Subjects) Order(orderID string) string { return s.keyed("orders", orderID) }

// StockOrder is the subject of what the warehouse decided about an order.
func (s Subjects) StockOrder(orderID string) string { return s.keyed("stock.main", orderID) }

// StockSKU is the subject of a SKU's receipts. Its second-last token is no partition: receipts reach no consumer group.
func (s Subjects) StockSKU(sku string) string { return "stock.main.sku." + Token(sku) }

// Notice is the subject of what was sent for one version of an order over one channel. It holds one message at most.
func (s Subjects) Notice(orderID string, version uint64, channel string) string {
	return s.keyed("notices", orderID) + "." + strconv.FormatUint(version, 10) + "." + Token(channel)
}

// NoticesOf filters what was sent about an order.
func (s Subjects) NoticesOf(orderID string) string { return s.keyed("notices", orderID) + ".*.*" }

// Click is the subject that clicks of a user are published to; the server adds the partition.
func (s Subjects) Click(user string) string { return "clicks." + Token(user) }

// Timer is the subject of an order's deadline while it waits, Timeout the one where it comes due.
func (s Subjects) Timer(orderID string) string { return s.keyed("timers", orderID) }

// Timeout is where an order's deadline is published when it comes due.
func (s Subjects) Timeout(orderID string) string { return s.keyed("timeouts", orderID) }

// Window is the subject of one window's results. start is epoch milliseconds.
func (s Subjects) Window(query, key string, start int64) string {
	return fmt.Sprintf("windows.%s.%s.%d", Token(query), Token(key), start)
}

// WindowsOf filters all results of one query.
func (s Subjects) WindowsOf(query string) string { return "windows." + Token(query) + ".*.*" }

// Commit is the subject of a query's commit records.
func (s Subjects) Commit(query string, shard int) string {
	return "commit." + Token(query) + "." + strconv.Itoa(shard)
}

// Late is the subject of a query's late events.
func (s Subjects) Late(reason, query string) string {
	return "late." + Token(reason) + "." + Token(query)
}

// Alert is the subject of one alert about a window: its name, whom it is about, and the window's start in epoch milliseconds. It holds one message at most.
func (s Subjects) Alert(name, key string, start int64) string {
	return fmt.Sprintf("alerts.%s.%s.%d", Token(name), Token(key), start)
}

// Letter is the subject of a group's dead letters with one key. The partition is the one that the event was read from, so that its owner finds what
// it owns, also where an event's key is not what its partition was computed from.
func (s Subjects) Letter(group string, partition int, key string) string {
	return "dlq." + Token(group) + "." + strconv.Itoa(partition) + "." + Token(key)
}

// Letters filters the dead letters of all groups.
func (s Subjects) Letters() string { return "dlq.*.*.*" }

// LettersOfGroup filters the dead letters of one group.
func (s Subjects) LettersOfGroup(group string) string { return "dlq." + Token(group) + ".*.*" }

// LettersOfPartition filters the dead letters of one partition of a group.
func (s Subjects) LettersOfPartition(group string, partition int) string {
	return "dlq." + Token(group) + "." + strconv.Itoa(partition) + ".*"
}

// LettersOfKey filters the dead letters of one key of a group.
func (s Subjects) LettersOfKey(group, key string) string {
	return "dlq." + Token(group) + ".*." + Token(key)
}

// LetterState is the subject of a letter's states; the last message is the current one.
func (s Subjects) LetterState(group, id string) string {
	return "dlqctl.letter." + Token(group) + "." + Token(id)
}

// LetterStates filters the states of all letters.
func (s Subjects) LetterStates() string { return "dlqctl.letter.*.*" }

// Job is the subject of a job on dead letters; the last message is its state.
func (s Subjects) Job(group, id string) string { return "dlqctl.job." + Token(group) + "." + Token(id) }

// JobsOfGroup filters the jobs of one group, Jobs those of all.
func (s Subjects) JobsOfGroup(group string) string { return "dlqctl.job." + Token(group) + ".*" }

// Jobs filters the jobs of all groups.
func (s Subjects) Jobs() string { return "dlqctl.job.*.*" }

// Crash is the subject of what a partition's owners tried after a crash.
func (s Subjects) Crash(group string, partition int) string {
	return "dlqctl.crash." + Token(group) + "." + strconv.Itoa(partition)
}
