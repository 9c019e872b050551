// Package order is the order service: its HTTP API, the order as an event-sourced aggregate, the process manager that leads an order to its end, and
// the listing.
//
// # An order's life
//
//	placed ──▶ reserved ──▶ confirmed
//	  │            │
//	  │            ├──▶ rejected{payment_declined}
//	  ├────────────┴──▶ rejected{timeout} · cancelled
//	  └──▶ rejected{out_of_stock}
//
// ORDERS holds order.placed and then at most one event that ends the order. "reserved" is no event of ORDERS: the warehouse said it in STOCK,
// and repeating it here would be a second truth. So [Order] is folded from its own events and from the answer of the warehouse.
//
// # What holds
//
//   - An order ends once. Whoever wants to end it (the process manager, the deadline, the customer) appends behind order.placed; the
//     optimistic lock lets one of them through, and the others read what happened.
//   - A placed order has its deadline in front of it: the timer is stored first, and order.placed is given up when half of the time has gone.
//   - What was captured for an order that did not end confirmed is voided. order.confirmed is the pivot: a charge without it is undone by whoever finds
//     the order ended, at the latest by its deadline.
//   - A request with an idempotency key has one effect. The order's id is derived from the key, so a repetition finds the subject taken, compares and answers
//     as before.
//
// # Where to look
//
//	order.go, decide.go             the aggregate: pure functions, no clock, no network
//	scanner.go, request.go,
//	faults.go, validate.go          what a caller may send, and how it is told what was wrong
//	place.go, once.go, contacts.go,
//	cancel.go                       the commands
//	process.go, deadline.go         what STOCK and TIMERS make of an order
//	payment.go                      the one outside system that is asked synchronously
//	table.go, listing.go            the read model and its queries
//	follow.go, snapshot.go,
//	projections.go, waiters.go      what keeps it, stores it, and lets a rebuilt one take its place
//	history.go                      an order as it was
//	http.go, answers.go             the HTTP operations
//	config.go, service.go           New, Run, Ready
package order
