package nexmark

import (
	"math"
	"strconv"
)

// Kind of event.
type Kind uint8

// The kinds.
const (
	Person  Kind = iota // somebody signs up
	Auction             // somebody opens an auction
	Bid                 // somebody bids
)

// Event is one event. Of what does not belong to its kind it has zero values.
type Event struct {
	Number   int64
	Kind     Kind
	Time     int64 // epoch milliseconds
	Person   int64 // who signs up, sells or bids
	Auction  int64 // that is opened or bid for
	Price    int64 // of the bid, or the least one of the auction, in cents
	Reserve  int64
	Category int64
	Expires  int64 // when the auction ends, epoch milliseconds
}

// ID is the event's id.
func (e *Event) ID() string {
	const width = 12
	b := make([]byte, 0, len("nexmark-")+width)
	b = append(b, "nexmark-"...)
	for n := int64(100_000_000_000); n > e.Number && n > 1; n /= 10 {
		b = append(b, '0')
	}
	return string(strconv.AppendInt(b, e.Number, 10))
}

// The numbers of Nexmark.
const (
	people, auctions, bids = 1, 3, 46 // of
	epoch                  = people + auctions + bids

	firstPerson, firstAuction, firstCategory = 1000, 1000, 10

	hotAuctions, hotSellers, hotBidders = 2, 4, 4 // all but one of so many are for a hot one
	hotGroup                            = 100     // of so many auctions or people one is hot
	inFlight                            = 100     // auctions that are bid for
	active                              = 1000    // people who sell and bid
	lead                                = 10      // ids that are not made yet, and may be used
	categories                          = 5

	groupSize, groupStep = 100, 953 // numbers within a group are shuffled
)

// What dice are for, so that no two draws are the same.
const (
	forEvent = iota + 1
	forText
	forDelay
	forCopy
	forPartition
)

// number is that of the event which is made in place i.
func number(i int64) int64 { return i/groupSize*groupSize + i*groupStep%groupSize }

// Event makes event number n.
func (c Config) Event(n int64) Event {
	d := c.dice(n, forEvent)
	e := Event{Number: n, Time: c.at(n)}
	switch rest := n % epoch; {
	case rest < people:
		e.Kind, e.Person = Person, firstPerson+lastPerson(n)
	case rest < people+auctions:
		e.Kind, e.Auction = Auction, firstAuction+lastAuction(n)
		e.Person = firstPerson + lastPerson(n)/hotGroup*hotGroup
		if d.below(hotSellers) == 0 {
			e.Person = firstPerson + anyPerson(n, &d)
		}
		e.Category = firstCategory + d.below(categories)
		e.Price = price(&d)
		e.Reserve = e.Price + price(&d)
		e.Expires = e.Time + 1 + d.below(max(2*(c.at(n+inFlight*epoch/auctions)-e.Time), 1))
	default:
		e.Kind = Bid
		e.Auction = firstAuction + lastAuction(n)/hotGroup*hotGroup
		if d.below(hotAuctions) == 0 {
			e.Auction = firstAuction + anyAuction(n, &d)
		}
		e.Person = firstPerson + lastPerson(n)/hotGroup*hotGroup + 1 // not the hot seller
		if d.below(hotBidders) == 0 {
			e.Person = firstPerson + anyPerson(n, &d)
		}
		e.Price = price(&d)
	}
	return e
}

// lastPerson is the newest one at event n, from 0.
func lastPerson(n int64) int64 { return n/epoch*people + min(n%epoch, people-1) }

// lastAuction is the newest one at event n, from 0; -1 before the first.
func lastAuction(n int64) int64 {
	return n/epoch*auctions + min(n%epoch-people, auctions-1)
}

func anyPerson(n int64, d *dice) int64 {
	all := lastPerson(n) + 1
	some := min(all, active)
	return all - some + d.below(some+lead)
}

func anyAuction(n int64, d *dice) int64 {
	last := lastAuction(n)
	least := max(last-inFlight, 0)
	return least + d.below(last-least+1+lead)
}

// price has a logarithm that is spread evenly, from a dollar to a million.
func price(d *dice) int64 { return int64(math.Round(math.Pow(10, d.fraction()*6) * 100)) }
