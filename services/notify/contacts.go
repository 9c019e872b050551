package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

var (
	errNoAddress = errors.New("no address")
	// errBadAddress does not repeat the address.
	errBadAddress = errors.New("the customer's address is not valid")
)

// contacts reads customers' addresses.
type contacts struct {
	bucket   jetstream.KeyValue
	messages lookup.Stream // of the bucket
	prefix   string        // of the keys' subjects
	replicas int
}

func openContacts(ctx context.Context, js jetstream.JetStream) (contacts, error) {
	bucket, err := js.KeyValue(ctx, events.BucketContacts)
	if err != nil {
		return contacts{}, fmt.Errorf("open bucket %s: %w", events.BucketContacts, err)
	}
	status, err := bucket.Status(ctx)
	if err != nil {
		return contacts{}, fmt.Errorf("open bucket %s: %w", events.BucketContacts, err)
	}
	c := contacts{bucket: bucket, messages: lookup.Of(js, "KV_"+events.BucketContacts), prefix: "$KV." + events.BucketContacts + "."} // NATS ADR-8
	if s, ok := status.(*jetstream.KeyValueBucketStatus); ok {
		c.replicas = s.StreamInfo().Config.Replicas
	}
	return c, nil
}

// maxAddress is the longest address that SMTP carries, in bytes (RFC 5321, erratum 1690).
const maxAddress = 254

// email is a customer's address. Its error wraps errNoAddress or errBadAddress, or says that the bucket could not be read.
func (c contacts) email(ctx context.Context, customerID string) (string, error) {
	value, err := c.read(ctx, events.Token(customerID))
	if err != nil {
		return "", err
	}
	var contact events.Contact
	if err := json.Unmarshal(value, &contact); err != nil {
		return "", fmt.Errorf("read contact: %w", errBadAddress)
	}
	if contact.Email == "" {
		return "", errNoAddress
	}
	if !validAddress(contact.Email) {
		return "", fmt.Errorf("read contact: %w", errBadAddress)
	}
	return contact.Email, nil
}

// read asks any replica. What a replica does not know may not have reached it yet, and "no address" is a last word: then the leader is asked.
func (c contacts) read(ctx context.Context, key string) ([]byte, error) {
	entry, err := c.bucket.Get(ctx, key)
	if err == nil {
		return entry.Value(), nil
	}
	if !errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, fmt.Errorf("read contact: %w", err)
	}
	if c.replicas < 2 {
		return nil, errNoAddress
	}
	return c.fromLeader(ctx, key)
}

func (c contacts) fromLeader(ctx context.Context, key string) ([]byte, error) {
	m, err := c.messages.FromLeader(ctx, lookup.Request{LastBySubject: c.prefix + key})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound), err == nil && len(m.Data) == 0: // never written, or deleted
		return nil, errNoAddress
	case err != nil:
		return nil, fmt.Errorf("read contact: %w", err)
	}
	return m.Data, nil
}

// validAddress takes a bare address: no name, no list, no quotes, nothing that could end a line or an SMTP command.
func validAddress(s string) bool {
	if len(s) > maxAddress || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune(` "<>,;\`, r) }) {
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s
}
