package events

import (
	"slices"
	"strings"
)

// The users of the broker besides the services.
const (
	UserOperator = "operator" // the verbs of tidemark, topology apply, the desk of tidemark up
	UserProducer = "producer" // producers that are not ours
)

// User is one user of the broker and the subjects that it may publish to and subscribe to. JetStream's API is subjects too, so this is all that a user may do. What is
// not allowed is denied, and what is denied is denied though it is allowed as well.
type User struct {
	Name        string
	Description string
	Publish     []string
	Deny        []string // of what Publish allows
	Subscribe   []string
}

// Users are all users of the broker with exactly the rights that the topology's declaration calls for.
func (t *Topology) Users() []User {
	users := make([]User, 0, len(allServices())+2)
	for _, service := range allServices() {
		users = append(users, t.service(service))
	}
	return append(users, t.operator(), t.producer())
}

// Inbox is the prefix of the subjects that a user receives answers on. Each has one of its own: with a shared one everybody could read everybody's.
func Inbox(user string) string { return "_INBOX_" + Token(user) }

// rights collect what one user may do.
type rights struct{ publish, deny, subscribe []string }

func (r *rights) api(names ...string) {
	for _, name := range names {
		r.publish = append(r.publish, "$JS.API."+name)
	}
}

func (r *rights) not(names ...string) {
	for _, name := range names {
		r.deny = append(r.deny, "$JS.API."+name)
	}
}

func (r *rights) user(name, description string) User {
	r.subscribe = append(r.subscribe, Inbox(name)+".>")
	return User{Name: name, Description: description, Publish: sorted(r.publish), Deny: sorted(r.deny), Subscribe: sorted(r.subscribe)}
}

func sorted(subjects []string) []string {
	slices.Sort(subjects)
	return slices.Compact(subjects)
}

// service derives what a service may do from who publishes, reads and groups by its name.
func (t *Topology) service(name string) User {
	var r rights
	for _, s := range t.Streams {
		t.streamRights(&r, s, name)
	}
	for _, g := range t.Groups {
		if g.Service == name {
			r.group(g)
		}
	}
	for _, b := range t.Buckets {
		t.bucketRights(&r, b, name)
	}
	return r.user(name, "the "+name+" service")
}

func (t *Topology) streamRights(r *rights, s Stream, service string) {
	publishes := slices.Contains(s.Publishers, service)
	if publishes {
		r.publish = append(r.publish, t.ofGroups(s.written(), s.GroupToken, service)...)
		r.subscribe = append(r.subscribe, t.ofGroups(s.Heard, s.GroupToken, service)...)
	}
	if publishes || slices.Contains(s.Readers, service) {
		r.api("STREAM.INFO." + s.Name)
	}
	if slices.Contains(s.Lookups, service) {
		r.api("STREAM.MSG.GET."+s.Name, "DIRECT.GET."+s.Name, "DIRECT.GET."+s.Name+".>")
	}
	if slices.Contains(s.Deleters, service) {
		r.api("STREAM.MSG.DELETE." + s.Name)
	}
	if slices.Contains(s.Followers, service) {
		r.api("CONSUMER.CREATE."+s.Name+".*", "CONSUMER.INFO."+s.Name+".*", "CONSUMER.MSG.NEXT."+s.Name+".*", "CONSUMER.DELETE."+s.Name+".*")
		t.spareGroups(r, s.Name, service)
	}
}

// written are the subjects that clients publish to.
func (s Stream) written() []string {
	return slices.DeleteFunc(slices.Clone(s.Subjects), func(subject string) bool { return slices.Contains(s.Fired, subject) })
}

// ofGroups narrows subjects to the groups of a service, where one of their tokens names a group.
func (t *Topology) ofGroups(subjects []string, token int, service string) []string {
	if token == 0 {
		return subjects
	}
	var out []string
	for _, subject := range subjects {
		for _, g := range t.Groups {
			if g.Service == service {
				tokens := strings.Split(subject, ".")
				tokens[token-1] = Token(g.Name)
				out = append(out, strings.Join(tokens, "."))
			}
		}
	}
	return out
}

// spareGroups takes the consumers of groups out of what a user may do with consumers of its own making: they are made by topology apply, and read by their service alone.
func (t *Topology) spareGroups(r *rights, stream, service string) {
	for _, g := range t.Groups {
		if g.Stream != stream {
			continue
		}
		for p := range g.Partitions {
			consumer := stream + "." + g.Consumer(p)
			r.not("CONSUMER.CREATE."+consumer, "CONSUMER.DELETE."+consumer)
			if g.Service != service {
				r.not("CONSUMER.MSG.NEXT." + consumer)
			}
		}
	}
}

// group is what a member needs of its group's consumers. Acknowledgements have two forms: the server's js_ack_fc_v2 chooses.
func (r *rights) group(g Group) {
	r.api("STREAM.MSG.GET." + g.Stream) // the bytes of an event that did not fit into its dead letter
	for p := range g.Partitions {
		consumer := g.Stream + "." + g.Consumer(p)
		r.api("CONSUMER.INFO."+consumer, "CONSUMER.MSG.NEXT."+consumer, "CONSUMER.RESET."+consumer, "CONSUMER.UNPIN."+consumer)
		r.publish = append(r.publish, "$JS.ACK."+consumer+".>", "$JS.ACK.*.*."+consumer+".>")
	}
}

func (t *Topology) bucketRights(r *rights, b Bucket, service string) {
	publishes, reads := slices.Contains(b.Publishers, service), slices.Contains(b.Readers, service)
	if !publishes && !reads {
		return
	}
	stream, subjects := "KV_"+b.Name, []string{"$KV." + b.Name + ".>"} // NATS ADR-8
	switch {
	case b.Objects:
		stream, subjects = "OBJ_"+b.Name, []string{"$O." + b.Name + ".C.*", "$O." + b.Name + ".M.*"} // NATS ADR-20: pieces and descriptions
	case b.GroupKeys:
		subjects = t.ofGroups([]string{"$KV." + b.Name + ".*.*"}, 3, service)
	}
	if reads && !b.GroupKeys {
		r.api("STREAM.MSG.GET." + stream) // from the leader, where there are replicas
	}
	r.api("STREAM.INFO." + stream)
	if publishes {
		r.publish = append(r.publish, subjects...)
	}
	if publishes && b.Objects {
		r.api("STREAM.PURGE." + stream) // of the pieces that a newer blob replaces
	}
	if !reads {
		return
	}
	if b.Objects {
		r.api("DIRECT.GET."+stream, "DIRECT.GET."+stream+"."+subjects[1]) // blobs piece by piece; the client library reads the description of what it is about to replace
		return
	}
	r.api("CONSUMER.INFO."+stream+".*", "CONSUMER.DELETE."+stream+".*")
	for _, subject := range subjects {
		r.api("DIRECT.GET."+stream+"."+subject, "CONSUMER.CREATE."+stream+".*."+subject)
	}
	r.publish = append(r.publish, "$JS.FC."+stream+".>", "$JS.FC.*.*."+stream+".>")
}

// operator sees everything, makes streams and consumers, and moves groups. It publishes no event, and it can neither delete nor purge a stream, nor delete what a group has read.
func (t *Topology) operator() User {
	var r rights
	r.api("INFO", "STREAM.LIST", "STREAM.NAMES", "STREAM.INFO.*", "STREAM.CREATE.*", "STREAM.UPDATE.*", "STREAM.MSG.GET.*", "DIRECT.GET.>",
		"STREAM.SNAPSHOT.*", "STREAM.RESTORE.*", "STREAM.LEADER.STEPDOWN.*", "STREAM.PEER.REMOVE.*",
		"CONSUMER.LIST.*", "CONSUMER.NAMES.*", "CONSUMER.INFO.*.*", "CONSUMER.CREATE.*.>", "CONSUMER.DELETE.*.*", "CONSUMER.MSG.NEXT.*.*",
		"CONSUMER.RESET.*.*", "CONSUMER.PAUSE.*.*", "CONSUMER.UNPIN.*.*", "CONSUMER.LEADER.STEPDOWN.*.*")
	r.publish = append(r.publish, "$JS.FC.>", "$JS.SNAPSHOT.>")
	for _, g := range t.Groups {
		for p := range g.Partitions {
			consumer := g.Stream + "." + g.Consumer(p)
			r.not("CONSUMER.DELETE."+consumer, "CONSUMER.MSG.NEXT."+consumer)
		}
	}
	for _, s := range t.Streams {
		for _, subject := range s.Subjects { // as they are published: it may read them all anyhow
			first, _, _ := strings.Cut(subject, ".")
			r.subscribe = append(r.subscribe, first+".>")
		}
	}
	r.subscribe = append(r.subscribe, "$JS.EVENT.ADVISORY.>")
	subjects := t.Subjects()
	r.publish = append(r.publish, SubjectTickSchedule, subjects.LetterStates(), subjects.Jobs())
	if timers, ok := t.Stream(StreamTimers); ok {
		r.publish = append(r.publish, timers.written()...) // a restore gives a deadline to an order that lacks one
	}
	return r.user(UserOperator, "the verbs of tidemark, topology apply, the desk of tidemark up")
}

// producer publishes what is open to producers that are not ours.
func (t *Topology) producer() User {
	var r rights
	for _, s := range t.Streams {
		if s.Outside {
			r.publish = append(r.publish, s.written()...)
		}
	}
	return r.user(UserProducer, "producers that are not ours")
}
