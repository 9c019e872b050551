package bus

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// sequences are the numbers of a delivery.
type sequences struct {
	stream, consumer, delivered uint64
	stored                      time.Time
}

// sequencesOf reads the reply subject of a delivery. The client library's way makes an object an event.
func sequencesOf(m *nats.Msg) (sequences, error) {
	if s, ok := usualSequences(m.Reply); ok {
		return s, nil
	}
	meta, err := m.Metadata()
	if err != nil {
		return sequences{}, fmt.Errorf("read metadata: %w", err)
	}
	return sequences{stream: meta.Sequence.Stream, consumer: meta.Sequence.Consumer, delivered: meta.NumDelivered, stored: meta.Timestamp}, nil
}

// usualSequences reads "$JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>", from its end. Whatever else there is, such as the longer
// form with a domain, is the client library's.
func usualSequences(reply string) (s sequences, ok bool) {
	var numbers [5]uint64
	for i := range numbers {
		if reply, numbers[i], ok = cutNumber(reply); !ok {
			return s, false
		}
	}
	name, ok := strings.CutPrefix(reply, "$JS.ACK.")
	if !ok || strings.Count(name, ".") != 1 {
		return s, false
	}
	return sequences{consumer: numbers[2], stream: numbers[3], delivered: numbers[4], stored: time.Unix(0, int64(numbers[1]))}, true //nolint:gosec // the broker's clock
}

// cutNumber takes the number behind the last dot off.
func cutNumber(s string) (rest string, n uint64, ok bool) {
	const mostDigits = 19 // more could overflow
	for i, power := len(s)-1, uint64(1); i > 0 && len(s)-i <= mostDigits+1; i-- {
		c := s[i]
		if c == '.' {
			return s[:i], n, i < len(s)-1
		}
		if c < '0' || c > '9' {
			break
		}
		n += uint64(c-'0') * power
		power *= 10
	}
	return "", 0, false
}
