// Package inventory decides about the stock of one warehouse.
//
// Its only database is the log STOCK: the state (units on hand and reserved of every SKU, the reservation of every order) is the fold of
// that log, in memory. One order's way through it:
//
//	order.placed               all lines available   stock.reserved    reserved goes up
//	                           any line short        stock.rejected    with every shortage
//	order.confirmed            reservation held      stock.committed   on hand and reserved go down
//	order.rejected, .cancelled reservation held      stock.released    reserved goes down
//	                           nothing decided yet   stock.released    without lines: a tombstone, the order can never reserve
//	anything else              -                     nothing
//
// Three rules carry the correctness, and everything else is speed:
//
//   - Every decision is appended under the warehouse's lock: the append says on which last sequence of STOCK the decision was made, and the
//     broker refuses it when the log has grown since. Whoever is refused reads what is new and decides again. So two instances can never sell
//     one unit twice; the consumer group's "one active member" only avoids useless conflicts.
//   - An order is decided once. What the warehouse knows of an order is in memory, or, when it ended long ago and was forgotten, one look
//     at the last event of its exact subject away. See [warehouse.lookup] for why memory can tell which of the two.
//   - The fold is pure: the same log gives the same state, with or without a snapshot. The snapshot is a cache that may be thrown away.
//
// The files: warehouse.go is the state and how events change it, decide.go what is decided on it; both are pure. decider.go holds the one
// goroutine that appends, live.go the guarded state and its following of the log, snapshot.go the cache, handler.go the consumer group's side, http.go
// the API, service.go how it starts and stops.
package inventory
