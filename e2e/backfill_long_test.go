//go:build long

package e2e_test

import (
	"testing"
	"time"
)

// TestLoadIntoASystemThatIdledForAMinute is TestLoadIntoAnIdleSystem with the settings of every day and more of the file.
func TestLoadIntoASystemThatIdledForAMinute(t *testing.T) {
	t.Parallel()
	loadIntoIdle(t, 1000, time.Minute)
}
