package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// limitedAttempt returns an attempt with a deadline after a second, and its context.
func limitedAttempt(ctx context.Context) *Attempt {
	attempt := NewCaller().NewChannel().NewAttempt(ctx, sentMethod)
	attempt.Limit(time.Now().Add(time.Second))
	return attempt
}

func TestAnAttemptHasTheEarlierDeadline(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct{ program, limit, want time.Duration }{
		"none of the program":          {0, time.Second, time.Second},
		"an earlier one of the caller": {time.Second, time.Minute, time.Second},
		"a later one of the caller":    {time.Minute, time.Second, time.Second},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, begun := t.Context(), time.Now()
				if test.program > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.program)
					defer cancel()
				}
				attempt := NewCaller().NewChannel().NewAttempt(ctx, sentMethod)
				defer attempt.End()
				attempt.Limit(begun.Add(test.limit))
				if deadline, ok := attempt.Deadline(); !ok || deadline.Sub(begun) != test.want {
					t.Errorf("the deadline is in %v, want %v", deadline.Sub(begun), test.want)
				}
				<-attempt.Done()
				if took := time.Since(begun); took != test.want || !errors.Is(attempt.Err(), context.DeadlineExceeded) {
					t.Errorf("it ended after %v with %v", took, attempt.Err())
				}
			})
		})
	}
}

// TestTheEndOfAnAttemptIsThatOfItsDeadline looks at attempts that have a deadline as at a
// context of package context: before and after something waits for them.
func TestTheEndOfAnAttemptIsThatOfItsDeadline(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		end  func(attempt *Attempt, cancel context.CancelFunc)
		want error
	}{
		"its deadline passes":     {func(*Attempt, context.CancelFunc) { time.Sleep(time.Second) }, context.DeadlineExceeded},
		"the caller cancels":      {func(_ *Attempt, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"the call returns":        {func(attempt *Attempt, _ context.CancelFunc) { attempt.End() }, context.Canceled},
		"it passes, and then all": {func(attempt *Attempt, cancel context.CancelFunc) { time.Sleep(time.Second); cancel(); attempt.End() }, nil},
	} {
		for _, waited := range []bool{false, true} {
			t.Run(title, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					attempt := limitedAttempt(ctx)
					defer attempt.End()
					derived, release := context.Context(attempt), context.CancelFunc(func() {})
					called := make(chan struct{})
					if waited {
						derived, release = context.WithCancel(attempt)
						context.AfterFunc(attempt, func() { close(called) })
					}
					defer release()
					if err := attempt.Err(); err != nil || derived.Err() != nil {
						t.Fatalf("it has ended too early: %v, %v", err, derived.Err())
					}
					test.end(attempt, cancel)
					synctest.Wait()
					err := attempt.Err()
					if err == nil || test.want != nil && !errors.Is(err, test.want) || !errors.Is(derived.Err(), err) || !errors.Is(context.Cause(derived), err) {
						t.Errorf("it ended with %v, what derives from it with %v because of %v, want %v", err, derived.Err(), context.Cause(derived), test.want)
					}
					<-attempt.Done()
					if waited {
						<-called
					}
					attempt.End()
					if again := attempt.Err(); !errors.Is(again, err) {
						t.Errorf("it has ended with %v and %v", err, again)
					}
				})
			})
		}
	}
}
