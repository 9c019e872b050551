//go:build long

package e2e_test

import "testing"

// TestPoisonAtAThousand: a thousand events a second for a minute, two of them poison. The others must not suffer: what is accepted a second is about what it is without
// poison, on the same system.
func TestPoisonAtAThousand(t *testing.T) {
	u := startUp(t)
	args := []string{"--rate", "1000", "--for", "60s"}
	clean := loadPoison(t, u.url, args...)
	poisoned := poison(t, u.url, append(args, "--poison", "0.002", "--seed", "2")...)
	if sent := poisoned.PoisonMail + poisoned.PoisonClicks; sent < 115 || sent > 120 {
		t.Errorf("%d of 60,000 events were poison, want two of a thousand", sent)
	}
	before, with := clean.accepted(), poisoned.accepted()
	t.Logf("accepted a second: %.1f without poison, %.1f with it: %.3f", before, with, with/before)
	if with < 0.9*before { // measured by itself: 0.98
		t.Errorf("poison hurts the others: %.1f events a second of %.1f", with, before)
	}
}

// accepted is how many events were accepted a second.
func (p poisoned) accepted() float64 { return float64(p.Placed+p.Clicks) / p.Seconds }
