//go:build long

package e2e_test

import "testing"

// TestEventTimeOfAllInvoices is TestEventTime with the whole file: 5,406 orders of four months, and 10,812 clicks.
func TestEventTimeOfAllInvoices(t *testing.T) { eventTime(t, 0) }
