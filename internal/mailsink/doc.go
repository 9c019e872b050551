// Package mailsink is the mail server that `tidemark up` brings along: it takes mail by SMTP, delivers none of it, and shows what it took. It
// stands for a system outside of Tidemark, so it shares no code with the services and keeps books of its own.
//
// The books are an append-only ledger, one JSON object a line in mails.jsonl. A mail is written before the sender hears 250, so a mail that was
// acknowledged survives a SIGKILL. A line that was cut off by a crash was never acknowledged; it is removed at the next start.
//
// A mail is known by its Message-ID. A sender that crashed before it noted what it had sent sends the same Message-ID again: the sink accepts that,
// counts the attempt, and lists the mail once. So one can tell how often a mail was tried from how often a customer would have read it.
//
// Memory is bounded by the number of mails, about 100 bytes each, and not by their size: bodies are read from the ledger when they are asked for.
//
//	doc.go      this story
//	config.go   addresses and limits
//	sink.go     New, Run, and the end
//	listener.go as many connections as are allowed, and no more
//	session.go  one SMTP conversation
//	faults.go   refusals and delays to switch on
//	message.go  what is read out of a mail
//	ledger.go   the books
//	http.go     /v1/outbox
package mailsink
