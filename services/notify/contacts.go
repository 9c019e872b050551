package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

var (
	errNoAddress = errors.New("no address")
	// errBadAddress does not repeat the address.
	errBadAddress = errors.New("the customer's address is not valid")
)

// contacts reads customers' addresses.
type contacts struct {
	bucket jetstream.KeyValue
	leader leaderReader // only on a replicated bucket
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
	c := contacts{bucket: bucket}
	if s, ok := status.(*jetstream.KeyValueBucketStatus); ok {
		c.leader = newLeaderReader(js, s.StreamInfo().Config)
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
	if c.leader.replicas < 2 {
		return nil, errNoAddress
	}
	value, err := c.leader.last(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read contact: %w", err)
	}
	if len(value) == 0 { // never written, or deleted
		return nil, errNoAddress
	}
	return value, nil
}

// leaderReader reads a bucket's last value of a key from the leader of its stream. The client library has no call for that: it asks any replica.
type leaderReader struct {
	nc       *nats.Conn
	api      string // subject of the request
	prefix   string // of the keys' subjects
	replicas int
}

func newLeaderReader(js jetstream.JetStream, c jetstream.StreamConfig) leaderReader {
	api := js.Options().APIPrefix
	if d := js.Options().Domain; d != "" {
		api = "$JS." + d + ".API."
	}
	if api == "" {
		api = jetstream.DefaultAPIPrefix
	}
	r := leaderReader{nc: js.Conn(), api: strings.TrimSuffix(api, ".") + ".STREAM.MSG.GET." + c.Name, replicas: c.Replicas}
	if len(c.Subjects) > 0 {
		r.prefix = strings.TrimSuffix(c.Subjects[0], ">")
	}
	return r
}

// last is the value, empty where there is none.
func (r leaderReader) last(ctx context.Context, key string) ([]byte, error) {
	request, err := json.Marshal(map[string]string{"last_by_subj": r.prefix + key})
	if err != nil {
		return nil, err
	}
	reply, err := r.nc.RequestWithContext(ctx, r.api, request)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Message struct {
			Data []byte `json:"data"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return nil, err
	}
	if answer.Error != nil && answer.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		return nil, answer.Error
	}
	return answer.Message.Data, nil
}

// validAddress takes a bare address: no name, no list, no quotes, nothing that could end a line or an SMTP command.
func validAddress(s string) bool {
	if len(s) > maxAddress || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune(` "<>,;\`, r) }) {
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s
}
