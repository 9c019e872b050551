// Package gateway is the payment gateway that comes with Tidemark: an outside system, so that the order service has something real to ask, to
// wait for and to lose answers of.
//
// It keeps what every payment provider promises, and Tidemark leans on:
//
//   - A key captures at most once, however often and however concurrently it is asked. The same key with the same payment gives the same answer.
//   - Voiding undoes a capture, and spends the key: a charge that comes later is answered "voided". Voiding what was never charged succeeds, so that
//     whoever gives up need not know how far the charge had come.
//   - What was answered is in the ledger: a line is written to the file before the answer leaves, so it survives SIGKILL. A line that the
//     kill cut in half was never answered, and is cut off at the next start.
//
// Faults can be switched while it runs: declines, errors before anything is done, errors after the capture (the answer is lost, the money is taken),
// and delay.
package gateway
