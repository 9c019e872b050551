// Package nexmark is the workload of the event-time benchmark: an auction site's people, auctions and bids after Nexmark, with late, repeated and misdated events added,
// five of its queries, and the results that are right, computed without the window engine.
//
// Everything is a function of [Config]: event n is the same whoever asks for it and in whatever order, and so is the order in which events are sent. So what
// comes out of any run can be compared with a digest that is stored beside this file.
//
// # The events
//
// The numbers are those of github.com/nexmark/nexmark (NexmarkConfiguration, GeneratorConfig and the generators of its models): of 50 events 1 is a person, 3
// are auctions and 46 are bids; half of the bids are for a hot auction and three quarters by a hot bidder; the others are spread over the last 100
// auctions and 1,000 people. Random numbers are drawn by event, not in a row, so values differ from those of the Java program, and their distributions don't.
//
// Added to it: each event is sent later than it happened, by a mixture of delays; 1 % are sent twice; 1 in 100,000 is dated a century ahead; and one partition
// of four falls silent for good. In the first tenth of a run there are no delays. In that time the silent partition is found out to be silent, and as nothing is late then,
// it does not matter for the results when: that hangs on the real clock of a run.
//
// # The queries
//
//	q5   which auction has the most bids, in ten seconds, every two seconds (hopping, top 1; of auctions with as many bids the first by name)
//	q7   the highest bid of ten seconds (tumbling, max). [start, end) as everywhere here; Nexmark's SQL counts a bid at the end twice
//	q8   people who have signed up and opened an auction in the same ten seconds (tumbling, a join of two kinds of events)
//	q11  how many bids a person has made in one session, that is until ten seconds without one
//	q12  how many bids a person has made in ten seconds of store time; Nexmark says processing time, which no two runs have in common
//
// generator.go makes events, payload.go writes them, delivery.go puts them in order, queries.go says what is asked, oracle.go and sessions.go what is right,
// engine.go asks pkg/window, digest.go compares.
package nexmark
