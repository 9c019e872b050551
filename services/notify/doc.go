// Package notify tells customers what became of their orders, and records that it did.
//
// It reads ORDERS as the consumer group "notify". Each order event and each channel (e-mail; a webhook where the operator configured one) makes
// exactly one notice in the stream NOTICES:
//
//  1. Look whether the notice is there. Then there is nothing to do.
//  2. Send.
//  3. Append the notice, expecting that its subject is empty.
//
// What goes out can't be taken back and shares no transaction with the log, so one gap remains: a crash between 2 and 3. Then the event comes again and
// the message is sent a second time, under the same Message-ID or webhook-id, which are derived from the order, its version and the channel. Whoever
// receives it can tell. The other order, record first, would lose messages in the same gap, and a lost message nobody can tell.
//
// The look is never left out. A delivery that is not marked as repeated is no proof that nobody handled it: an operator may have moved the
// group's offset back, and nobody wants the mails of a month again. The order's version makes the subject, so a look is one read of one exact subject.
//
// The channels stand by themselves. One that fails is tried again while the other, whose notice is there, stays silent. A failure that time may heal
// (connections, time-outs, SMTP 4xx, HTTP 5xx) is retried; what the other side refuses for good (SMTP 5xx, HTTP 4xx) becomes a dead letter.
//
// Events carry the customer's id only. Addresses are read from the bucket CONTACTS when they are needed and are kept nowhere: not in the notice, not in an
// error, not in a log. A customer without an address gets a notice that says so.
//
//	config.go    what the operator decides, and what the service is made of
//	service.go   New, Run, Ready
//	handler.go   one order event, all channels; which failures are worth a retry
//	news.go      what an order event says
//	message.go   the texts
//	contacts.go  customers' addresses
//	email.go     the channel e-mail
//	smtp.go      kept connections to the mail server
//	webhook.go   the channel webhook
//	notices.go   the record
//	http.go      GET /v1/notices
package notify
