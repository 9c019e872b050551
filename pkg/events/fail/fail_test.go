package fail_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/fail"
)

func TestPermanent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nil":              {nil, false},
		"nil, marked":      {fail.Permanent(nil), false},
		"plain":            {io.EOF, false},
		"marked":           {fail.Permanent(io.EOF), true},
		"wrapped":          {fmt.Errorf("read: %w", fail.Permanent(io.EOF)), true},
		"joined":           {errors.Join(io.ErrClosedPipe, fail.Permanent(io.EOF)), true},
		"with a wait":      {fail.RetryAfter(time.Second, fail.Permanent(io.EOF)), true},
		"only with a wait": {fail.RetryAfter(time.Second, io.EOF), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := fail.IsPermanent(c.err); got != c.want {
				t.Errorf("IsPermanent(%v) = %t, want %t", c.err, got, c.want)
			}
		})
	}
}

func TestMarksKeepTheError(t *testing.T) {
	t.Parallel()
	for _, err := range []error{fail.Permanent(io.EOF), fail.RetryAfter(time.Second, io.EOF)} {
		if !errors.Is(err, io.EOF) || err.Error() != io.EOF.Error() {
			t.Errorf("%v is not %v", err, io.EOF)
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	if wait, ok := fail.Wait(fmt.Errorf("call: %w", fail.RetryAfter(3*time.Second, io.EOF))); !ok || wait != 3*time.Second {
		t.Errorf("Wait = %s, %t; want 3s", wait, ok)
	}
	if _, ok := fail.Wait(io.EOF); ok {
		t.Error("a plain error asks for no wait")
	}
	if fail.RetryAfter(time.Second, nil) != nil {
		t.Error("nil must stay nil")
	}
}

// Example shows what a handler says: an address that does not exist is permanent, a busy server asks to be left alone for a while, and
// everything else is tried again.
func Example() {
	handle := func(status int) error {
		switch status {
		case 550:
			return fail.Permanent(errors.New("no such mailbox"))
		case 429:
			return fail.RetryAfter(2*time.Second, errors.New("busy"))
		default:
			return fmt.Errorf("status %d", status)
		}
	}
	for _, status := range []int{550, 429, 451} {
		err := handle(status)
		wait, _ := fail.Wait(err)
		fmt.Println(err, fail.IsPermanent(err), wait)
	}
	// Output:
	// no such mailbox true 0s
	// busy false 2s
	// status 451 false 0s
}
