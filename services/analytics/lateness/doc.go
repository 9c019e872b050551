// Package lateness says how long a query should wait for late events, from how late they were.
//
// A [Meter] takes the [window.Sample] of each event: its overrun n is how far the log had gone past the end of the event's last window when
// the event came. The event is on time iff n < bound, and lost iff n >= bound + allowed lateness. So the share of events with n < x is what a wait of x
// would catch: no model is needed, and what is measured does not depend on the bound that is set.
//
// It is kept by the hour of store time, the last 24 of them, as HdrHistograms of milliseconds with two digits: a wait is right within 0.8 %, and the error
// is always to the safe side. What is more than a day late is counted, without how late.
//
// A meter is a function of the log, as the windows are: it has no clock, and it is part of what a base stores. [Advise] makes a recommendation of it. Nothing
// is changed by it: a wait is a decision between latency, memory and refinements, and [Cost] shows all three.
package lateness
