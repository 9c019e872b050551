package deadletter

// Reason says why an event became a dead letter.
type Reason string

// The reasons.
const (
	ReasonPermanent          Reason = "permanent"           // the handler said that no retry helps
	ReasonExhausted          Reason = "exhausted"           // all retries failed
	ReasonPanic              Reason = "panic"               // the handler panicked again and again
	ReasonCrashLoop          Reason = "crash_loop"          // the process died on it again and again
	ReasonUndecodable        Reason = "undecodable"         // no event, or a payload that is none
	ReasonUnknownType        Reason = "unknown_type"        // the type is not in the catalogue
	ReasonUnsupportedVersion Reason = "unsupported_version" // the type is known, this major version of it is not
	ReasonSchema             Reason = "schema"              // the payload breaks its schema
	ReasonRule               Reason = "rule"                // the payload breaks a rule that no schema can say
	ReasonTransient          Reason = "transient"           // a retry is due later; see [StateRetrying]
	ReasonPredecessor        Reason = "predecessor"         // an earlier event of its key is a dead letter
)

// State is what a letter waits for.
type State string

// The states.
const (
	StateRetrying  State = "retrying"  // the group tries again by itself, at NextAt
	StateBlocked   State = "blocked"   // an earlier letter of its key must go first
	StateDead      State = "dead"      // for an operator
	StateReplaying State = "replaying" // its handler is being called; after a crash: it was
	StateResolved  State = "resolved"  // handled, and removed
	StateDiscarded State = "discarded" // given up by an operator, and removed
)

// Closed reports whether the letter is done with: it is removed, or will be.
func (s State) Closed() bool { return s == StateResolved || s == StateDiscarded }

// Action is what an entry records.
type Action string

// The actions.
const (
	ActionClaim      Action = "claim"      // the owner calls the handler now
	ActionResolve    Action = "resolve"    // the handler succeeded
	ActionReschedule Action = "reschedule" // it failed, and is tried again at NextAt
	ActionFail       Action = "fail"       // it failed for good
	ActionGiveBack   Action = "give_back"  // the owner stopped before the handler had an outcome
	ActionDiscard    Action = "discard"
	ActionDrop       Action = "drop" // the handler said that the event is not wanted; there is no letter
	ActionNote       Action = "note"
	ActionEdit       Action = "edit"
)

// allowed reports whether a letter may go from one state to another.
func allowed(from, to State) bool {
	switch {
	case from.Closed():
		return false
	case from == to: // a note, an edit, or a claim after a crash
		return true
	case from == StateReplaying:
		return true
	default: // retrying, blocked, dead
		return to == StateReplaying || to == StateDiscarded
	}
}
