// Package deadletters is the operator's desk: what is asked about dead letters, and what is ordered, by the verbs `tidemark dlq …` and by HTTP alike. The letters
// themselves, their states and who may write what are package pkg/events/deadletter's; nothing here settles, parks or removes anything.
//
// The way of a person who was woken by an alert:
//
//	Causes   what is wrong: one line a cause, not one a letter
//	Show     one letter in full: the event, every attempt, who did what about it
//	Edit     correct a payload that can't be handled as it is
//	Select   freeze the list of letters that an action is about, and count it before anything happens
//	Start    order the replay or the discard: one job for each group, carried out by the members of that group
//	Await    follow a job to its end
//
// Every action says who and why; that is stored in the same message as what it changes.
//
//	desk.go      New and the listing
//	query.go     filters, as a person writes them
//	causes.go    letters by their cause
//	show.go      one letter in full
//	edit.go      corrected payloads
//	jobs.go      replay and discard
//	http.go      /v1/deadletters
//	observer.go  metrics
package deadletters
