package bus

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// TestSequences: the short way to read a delivery's numbers is the client library's, or leaves them to it.
func TestSequences(t *testing.T) {
	t.Parallel()
	const short = "$JS.ACK.ORDERS.notify-0."
	for reply, usual := range map[string]bool{
		short + "1.17.3.1764188496000000001.250":                              true,
		short + "12.9999999999999999999.3.1.0":                                true,
		short + "1.18446744073709551615.3.1.0":                                false, // 20 digits
		short + "1.17.3.1764188496000000001.":                                 false,
		short + "1.17.x.1764188496000000001.0":                                false,
		short + "1.17.3.1764188496000000001":                                  false,
		short + "1.1.17.3.1764188496000000001.0":                              false,
		"$JS.ACK._.hash.ORDERS.notify-0.1.17.3.1764188496000000001.250.token": false,
		"$JS.ACK._.hash.ORDERS.notify-0.1.17.3.1764188496000000001.250.1234":  false,
		"$JS.NAK.ORDERS.notify-0.1.17.3.1764188496000000001.250":              false,
		"": false,
	} {
		got, ok := usualSequences(reply)
		if ok != usual {
			t.Errorf("%q: read the short way: %t", reply, ok)
		}
		if !ok {
			continue
		}
		m := &nats.Msg{Reply: reply, Sub: &nats.Subscription{}}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		want := sequences{stream: meta.Sequence.Stream, consumer: meta.Sequence.Consumer, delivered: meta.NumDelivered, stored: meta.Timestamp}
		if got != want {
			t.Errorf("%q:\n got %+v\nwant %+v", reply, got, want)
		}
	}
}
