// Package asyncapi makes an AsyncAPI 3.0 document of a topology and its catalogue: channels are shapes of subjects, operations are what services send
// and groups receive, messages carry the JSON Schemas of the catalogue. What AsyncAPI has no words for (streams, consumer groups, partitions, acknowledgement) stands
// under x-jetstream.
//
// The document is made from the same declaration that makes the streams, so it can't say anything else; a test reads the running streams and consumers back and
// compares. It is deterministic: the same declaration makes the same bytes.
package asyncapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tidemark/tidemark/pkg/events"
)

// Version is the version of AsyncAPI that documents are written in.
const Version = "3.0.0"

// Info says what the document describes.
type Info struct {
	Title       string
	Version     string
	Description string
	Host        string // of the NATS server, host:port; empty: 127.0.0.1:4222
}

// Document is an AsyncAPI document. Its maps are written in the order of their keys.
type Document struct {
	AsyncAPI           string               `json:"asyncapi"`
	Info               info                 `json:"info"`
	DefaultContentType string               `json:"defaultContentType"`
	Servers            map[string]server    `json:"servers"`
	Channels           map[string]Channel   `json:"channels"`
	Operations         map[string]Operation `json:"operations"`
	Components         components           `json:"components"`
	JetStream          Streams              `json:"x-jetstream"`
}

type info struct {
	Title       string `json:"title"`
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`
}

type server struct {
	Host     string `json:"host"`
	Protocol string `json:"protocol"`
}

// Channel is one shape of subjects.
type Channel struct {
	Address     string               `json:"address"`
	Description string               `json:"description"`
	Parameters  map[string]parameter `json:"parameters,omitempty"`
	Messages    map[string]ref       `json:"messages"`
	JetStream   ChannelStream        `json:"x-jetstream"`
}

type parameter struct {
	Description string `json:"description"`
}

type ref struct {
	Ref string `json:"$ref"`
}

// Operation is a service that sends, or one of its groups that receives.
type Operation struct {
	Action    string         `json:"action"` // "send", "receive"
	Channel   ref            `json:"channel"`
	Summary   string         `json:"summary,omitempty"`
	Tags      []tag          `json:"tags"` // the service
	Messages  []ref          `json:"messages"`
	JetStream *ConsumerGroup `json:"x-jetstream,omitempty"` // of a group
}

type tag struct {
	Name string `json:"name"`
}

type components struct {
	Messages map[string]message `json:"messages"`
	Schemas  map[string]any     `json:"schemas"`
}

type message struct {
	Name        string `json:"name"`
	Title       string `json:"title,omitempty"`
	Summary     string `json:"summary"`
	ContentType string `json:"contentType,omitempty"`
	Headers     any    `json:"headers,omitempty"`
	Payload     *ref   `json:"payload,omitempty"`
}

// New makes the document of a topology.
func New(t *events.Topology, r *events.Registry, i Info) (*Document, error) {
	if i.Host == "" {
		i.Host = "127.0.0.1:4222"
	}
	d := &Document{
		AsyncAPI: Version, Info: info{Title: i.Title, Version: i.Version, Description: i.Description}, DefaultContentType: "application/json",
		Servers:  map[string]server{"nats": {Host: i.Host, Protocol: "nats"}},
		Channels: make(map[string]Channel), Operations: make(map[string]Operation),
		Components: components{Messages: make(map[string]message), Schemas: map[string]any{envelope: envelopeSchema()}},
		JetStream:  streamsOf(t),
	}
	for _, c := range t.Channels {
		d.addChannel(t, c)
		for _, service := range c.Senders {
			d.Operations[service+".send."+c.Name] = Operation{
				Action: "send", Channel: toChannel(c.Name), Tags: []tag{{Name: service}}, Messages: toMessages(c, messagesOf(c)),
			}
		}
	}
	for _, g := range t.Groups {
		d.addGroup(t, g)
	}
	for _, eventType := range r.Types() {
		if err := d.addType(r, eventType); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// JSON writes the document, indented.
func (d *Document) JSON() ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(d); err != nil {
		return nil, fmt.Errorf("write AsyncAPI document: %w", err)
	}
	return b.Bytes(), nil
}

// messagesOf are the names of a channel's messages: its event types, or the channel's own name where it carries something else.
func messagesOf(c events.Channel) []string {
	if c.Other != "" {
		return []string{c.Name}
	}
	return c.Types
}

func (d *Document) addChannel(t *events.Topology, c events.Channel) {
	channel := Channel{Address: c.Address, Description: c.Description, Messages: make(map[string]ref), JetStream: channelStream(t, c)}
	for _, name := range c.Parameters() {
		if channel.Parameters == nil {
			channel.Parameters = make(map[string]parameter)
		}
		channel.Parameters[name] = parameter{Description: parameterText(t, name)}
	}
	for _, name := range messagesOf(c) {
		channel.Messages[name] = ref{"#/components/messages/" + name}
	}
	if c.Other != "" {
		d.Components.Messages[c.Name] = message{Name: c.Name, Summary: c.Other}
	}
	d.Channels[c.Name] = channel
}

func parameterText(t *events.Topology, name string) string {
	if name == "partition" {
		return fmt.Sprintf("FNV-1a (32 bit) of the next token modulo %d, as nats-server computes it", t.Partitions)
	}
	return name + ", as one token: letters, digits, - and _ stand for themselves, any other byte is =XX"
}

// addGroup adds an operation for each channel whose events the group handles.
func (d *Document) addGroup(t *events.Topology, g events.Group) {
	for _, c := range t.ChannelsOf(g.Stream) {
		handled := slices.DeleteFunc(slices.Clone(c.Types), func(eventType string) bool { return !slices.Contains(g.Handles, eventType) })
		if len(handled) == 0 || !g.Reads(c) {
			continue
		}
		group := groupOf(g)
		d.Operations[g.Name+".receive."+c.Name] = Operation{
			Action: "receive", Channel: toChannel(c.Name), Summary: g.Description, Tags: []tag{{Name: g.Service}}, Messages: toMessages(c, handled), JetStream: &group,
		}
	}
}

func (d *Document) addType(r *events.Registry, eventType string) error {
	raw, _ := r.Schema(eventType)
	var schema map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		return fmt.Errorf("schema of %s: %w", eventType, err)
	}
	delete(schema, "$schema") // in here a schema is AsyncAPI's, which has all the keywords that the catalogue uses
	d.Components.Schemas[eventType] = schema
	summary, _ := schema["description"].(string)
	d.Components.Messages[eventType] = message{
		Name: eventType, Title: eventType, Summary: summary, ContentType: "application/json", Headers: headersOf(eventType),
		Payload: &ref{"#/components/schemas/" + eventType},
	}
	return nil
}

func toChannel(name string) ref { return ref{"#/channels/" + name} }

func toMessages(c events.Channel, names []string) []ref {
	refs := make([]ref, 0, len(names))
	for _, name := range names {
		refs = append(refs, ref{"#/channels/" + c.Name + "/messages/" + name})
	}
	return refs
}
