package fail_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events/fail"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	infra, permanent, later, drop := fail.Infra(io.EOF), fail.Permanent(io.EOF), fail.RetryAfter(time.Second, io.EOF), fail.Drop("not for us")
	for name, c := range map[string]struct {
		err  error
		want fail.Class
	}{
		"nil":                         {nil, fail.None},
		"nil, marked":                 {fail.Permanent(nil), fail.None},
		"nil, with a wait":            {fail.RetryAfter(time.Second, nil), fail.None},
		"nil, infra":                  {fail.Infra(nil), fail.None},
		"plain":                       {io.EOF, fail.Transient},
		"plain, joined":               {errors.Join(io.EOF, io.ErrNoProgress), fail.Transient},
		"permanent":                   {permanent, fail.Final},
		"permanent, wrapped":          {fmt.Errorf("read: %w", permanent), fail.Final},
		"permanent, joined":           {errors.Join(io.ErrClosedPipe, permanent), fail.Final},
		"permanent, with a wait":      {fail.RetryAfter(time.Second, permanent), fail.Final},
		"only with a wait":            {later, fail.Delayed},
		"wait, joined":                {errors.Join(io.EOF, later), fail.Delayed},
		"infra":                       {infra, fail.Outage},
		"infra in a permanent one":    {fail.Permanent(fmt.Errorf("load: %w", infra)), fail.Outage},
		"infra, joined to all":        {errors.Join(permanent, later, io.EOF, infra), fail.Outage},
		"drop":                        {drop, fail.Dropped},
		"drop, wrapped":               {fmt.Errorf("decide: %w", drop), fail.Dropped},
		"two drops":                   {errors.Join(drop, drop), fail.Dropped},
		"a join of one drop":          {errors.Join(drop), fail.Dropped},
		"drop and a plain error":      {errors.Join(drop, io.EOF), fail.Transient},
		"a plain error and drop":      {errors.Join(io.EOF, drop), fail.Transient},
		"drop and permanent":          {errors.Join(drop, permanent), fail.Final},
		"two with %w":                 {fmt.Errorf("%w and %w", later, permanent), fail.Final},
		"two drops and a plain error": {errors.Join(drop, drop, io.EOF), fail.Transient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := fail.Classify(c.err).Class; got != c.want {
				t.Errorf("%v is %s, want %s", c.err, got, c.want)
			}
			if fail.IsPermanent(c.err) != (c.want == fail.Final) {
				t.Errorf("IsPermanent(%v)", c.err)
			}
		})
	}
}

// TestPrecedence: whatever the tree of errors, the most careful mark in it counts, and a drop only where nothing else is said.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		strongest, drops, others := fail.None, 0, 0
		var tree func(depth int) error
		tree = func(depth int) error {
			if depth > 0 && rapid.Bool().Draw(t, "inner") {
				if rapid.Bool().Draw(t, "join") {
					return errors.Join(tree(depth-1), tree(depth-1))
				}
				return fmt.Errorf("wrapped: %w", tree(depth-1))
			}
			class := rapid.SampledFrom([]fail.Class{fail.Dropped, fail.Transient, fail.Delayed, fail.Final, fail.Outage}).Draw(t, "class")
			if class == fail.Dropped {
				drops++
			} else {
				others++
				strongest = max(strongest, class)
			}
			switch class {
			case fail.Dropped:
				return fail.Drop("no")
			case fail.Delayed:
				return fail.RetryAfter(time.Second, io.EOF)
			case fail.Final:
				return fail.Permanent(io.EOF)
			case fail.Outage:
				return fail.Infra(io.EOF)
			default:
				return io.EOF
			}
		}
		err := tree(4)
		want := strongest
		if others == 0 {
			want = fail.Dropped
		}
		if got := fail.Classify(err).Class; got != want {
			t.Fatalf("%d drops and %d others: %s, want %s", drops, others, got, want)
		}
	})
}

func TestMarksKeepTheError(t *testing.T) {
	t.Parallel()
	for _, err := range []error{fail.Permanent(io.EOF), fail.RetryAfter(time.Second, io.EOF), fail.Infra(io.EOF)} {
		if !errors.Is(err, io.EOF) || err.Error() != io.EOF.Error() {
			t.Errorf("%v is not %v", err, io.EOF)
		}
	}
	if fail.Drop("because").Error() != "because" {
		t.Error("a drop says why")
	}
}

func TestDetails(t *testing.T) {
	t.Parallel()
	if wait, ok := fail.Wait(fmt.Errorf("call: %w", fail.RetryAfter(3*time.Second, io.EOF))); !ok || wait != 3*time.Second {
		t.Errorf("Wait = %s, %t; want 3s", wait, ok)
	}
	if wait, _ := fail.Wait(fail.RetryAfter(-1, io.EOF)); wait != 0 {
		t.Errorf("a negative wait is %s, want 0", wait)
	}
	if _, ok := fail.Wait(io.EOF); ok {
		t.Error("a plain error asks for no wait")
	}
	v := fail.Classify(errors.Join(io.EOF, fail.Permanent(io.EOF, "no_mailbox")))
	if v.Code != "no_mailbox" {
		t.Errorf("code %q", v.Code)
	}
	frame, _ := runtime.CallersFrames(v.Stack).Next()
	if !strings.HasSuffix(frame.Function, "TestDetails") {
		t.Errorf("the first frame is %s, want the place that made the mark", frame.Function)
	}
}

// Example shows what a handler says: an address that does not exist is permanent, a busy server asks to be left alone for a while, and
// everything else is tried again.
func Example() {
	handle := func(status int) error {
		switch status {
		case 550:
			return fail.Permanent(errors.New("no such mailbox"), "no_mailbox")
		case 429:
			return fail.RetryAfter(2*time.Second, errors.New("busy"))
		case 0:
			return fail.Infra(errors.New("connection refused"))
		default:
			return fmt.Errorf("status %d", status)
		}
	}
	for _, status := range []int{550, 429, 451, 0} {
		err := handle(status)
		v := fail.Classify(err)
		fmt.Println(v.Class, v.Wait, err)
	}
	// Output:
	// permanent 0s no such mailbox
	// retry_after 2s busy
	// transient 0s status 451
	// infra 0s connection refused
}
