package eventually_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onecall-dev/onecall/internal/eventually"
)

// recorder is a testing.TB that records how it ended instead of failing.
type recorder struct {
	testing.TB

	message string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) { r.message = fmt.Sprintf(format, args...) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// messageOf returns how a test ends that does this.
func messageOf(tb testing.TB, do func(*recorder)) string {
	tb.Helper()
	r := &recorder{TB: tb}
	var test sync.WaitGroup
	test.Go(func() { do(r) })
	test.Wait()
	return r.message
}

func TestAWaitEndsWithItsEventOrAtTheLimit(t *testing.T) {
	t.Parallel()
	late := func() func() bool {
		end := time.Now().Add(eventually.Limit - time.Second)
		return func() bool { return time.Now().After(end) }
	}
	for _, test := range []struct {
		name string
		do   func(*recorder)
		want string
	}{
		{"a condition that becomes true late", func(tb *recorder) { eventually.True(tb, "it", late()) }, ""},
		{"one that never does", func(tb *recorder) { eventually.True(tb, "it", func() bool { return false }) }, "waited 2m0s in vain for this: it"},
		{"a value", func(tb *recorder) {
			from := make(chan int, 1)
			from <- 7
			if got := eventually.Receive(tb, "it", from); got != 7 {
				tb.Errorf("received %d", got)
			}
		}, ""},
		{"no value", func(tb *recorder) { eventually.Receive(tb, "it", make(chan int)) }, "waited 2m0s in vain for this: it"},
		{"what returns", func(tb *recorder) { eventually.Returns(tb, "it", func() { time.Sleep(time.Second) }) }, ""},
		{"what waits", func(tb *recorder) { eventually.Returns(tb, "it", func() { time.Sleep(time.Minute) }) }, "it took 1m0s and should wait for nothing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if got := messageOf(t, test.do); got != test.want {
					t.Errorf("the test ends with %q, want %q", got, test.want)
				}
			})
		})
	}
}
