package bus

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

type callKey struct{}

// TestCallContext: whatever is asked of it first, it behaves as the context that it stands for.
func TestCallContext(t *testing.T) {
	t.Parallel()
	cause := errors.New("the member stops")
	ends := map[string]struct {
		end  func(call *callContext, parent context.CancelCauseFunc)
		want error
		why  error
	}{
		"the call returns":  {func(call *callContext, _ context.CancelCauseFunc) { call.end() }, context.Canceled, context.Canceled},
		"the parent ends":   {func(_ *callContext, parent context.CancelCauseFunc) { parent(cause) }, context.Canceled, cause},
		"the time is over":  {func(*callContext, context.CancelCauseFunc) { <-time.After(time.Minute) }, context.DeadlineExceeded, context.DeadlineExceeded},
		"two of them do it": {func(call *callContext, parent context.CancelCauseFunc) { parent(cause); call.end() }, context.Canceled, cause},
	}
	uses := map[string]func(ctx context.Context){
		"nothing":       func(context.Context) {},
		"its deadline":  func(ctx context.Context) { ctx.Deadline() },
		"its done":      func(ctx context.Context) { ctx.Done() },
		"its error":     func(ctx context.Context) { _ = ctx.Err() },
		"a value of it": func(ctx context.Context) { ctx.Value(callKey{}) },
	}
	for how, e := range ends {
		for what, use := range uses {
			t.Run(how+" after "+what, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					parent, stop := context.WithCancelCause(context.WithValue(t.Context(), callKey{}, 7))
					defer stop(nil)
					call := new(callContext)
					call.begin(parent, time.Minute, 1)
					defer call.end()
					use(call)
					if err := call.Err(); err != nil {
						t.Errorf("ended early: %v", err)
					}
					if at, ok := call.Deadline(); !ok || !at.Equal(time.Now().Add(time.Minute)) {
						t.Errorf("deadline %s, %t", at, ok)
					}
					e.end(call, stop)
					synctest.Wait()
					if err := call.Err(); !errors.Is(err, e.want) {
						t.Errorf("error %v, want %v", err, e.want)
					}
					select {
					case <-call.Done():
					default:
						t.Error("not done")
					}
					if why := context.Cause(call); !errors.Is(why, e.why) {
						t.Errorf("cause %v, want %v", why, e.why)
					}
					if call.Value(callKey{}) != 7 {
						t.Error("lost the parent's value")
					}
				})
			})
		}
	}
}

// TestCallContextEndsItsChildren: what a handler derives ends with the call, and leaves no goroutine behind.
func TestCallContextEndsItsChildren(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		call := new(callContext)
		call.begin(t.Context(), time.Minute, 1)
		child, cancel := context.WithCancel(call)
		defer cancel()
		called := make(chan struct{})
		context.AfterFunc(call, func() { close(called) })
		call.end()
		<-child.Done()
		<-called
	})
}
