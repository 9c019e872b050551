package order

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// contacts writes customers' addresses into the bucket CONTACTS. They stand in no event, so that they can be deleted.
type contacts struct {
	bucket jetstream.KeyValue
	fresh  *lru.Cache[string, contact]
}

// contact is an address that was written, and when.
type contact struct {
	email string
	at    time.Time
}

const (
	freshContacts = 10_000
	// freshFor is how long an address that was written is taken to be there still. An operator may have deleted it meanwhile, and a new order gives it again.
	freshFor = time.Minute
)

func newContacts(bucket jetstream.KeyValue) (*contacts, error) {
	fresh, err := lru.New[string, contact](freshContacts)
	if err != nil {
		return nil, fmt.Errorf("contacts: %w", err)
	}
	return &contacts{bucket: bucket, fresh: fresh}, nil
}

// remember stores the customer's address. The last one holds.
func (c *contacts) remember(ctx context.Context, customer, email string) error {
	if email == "" {
		return nil
	}
	now := time.Now()
	if known, ok := c.fresh.Get(customer); ok && known.email == email && now.Sub(known.at) < freshFor {
		return nil
	}
	value, err := json.Marshal(events.Contact{Email: email})
	if err != nil {
		return fmt.Errorf("remember contact: %w", err)
	}
	if _, err := c.bucket.Put(ctx, events.Token(customer), value); err != nil {
		return fmt.Errorf("remember contact: %w", err)
	}
	c.fresh.Add(customer, contact{email: email, at: now})
	return nil
}
