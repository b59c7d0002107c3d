package notify_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/onecall-dev/onecall/internal/notify"
)

func TestAnObserverIsNotifiedOneByOneAndInOrder(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // says the order, as a registry's lock does
	var got []int
	inside := 0
	observer := notify.NewObserver(func(value int) {
		inside++ // the race detector sees two at once
		got = append(got, value)
		inside--
	})
	const each = 200
	next := 0
	var adding sync.WaitGroup
	for range 8 {
		adding.Go(func() {
			for range each {
				mu.Lock()
				observer.Add(next)
				next++
				mu.Unlock()
				observer.Run()
			}
		})
	}
	adding.Wait()
	observer.Stop()
	if len(got) != 8*each || inside != 0 {
		t.Fatalf("notified %d times, want %d", len(got), 8*each)
	}
	for i, value := range got {
		if value != i {
			t.Fatalf("notification %d is of %d", i, value)
		}
	}
}

func TestAnObserverMayCauseWhatItIsNotifiedOf(t *testing.T) {
	t.Parallel()
	count := 0
	var observer *notify.Observer[int]
	observer = notify.NewObserver(func(int) {
		count++
		if count < 5 {
			observer.Add(1)
			observer.Run()
		}
	})
	observer.Add(1)
	observer.Run()
	if count != 5 {
		t.Errorf("notified %d times, want 5", count)
	}
}

func TestStopWaitsForANotificationAndAllowsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		goOn, stopped, count := make(chan struct{}), false, 0
		observer := notify.NewObserver(func(int) {
			count++
			<-goOn
		})
		observer.Add(1)
		observer.Add(1)
		go observer.Run()
		synctest.Wait()
		go func() {
			observer.Stop()
			stopped = true
		}()
		synctest.Wait()
		if stopped {
			t.Error("Stop did not wait")
		}
		close(goOn)
		synctest.Wait()
		observer.Add(1)
		observer.Run()
		if !stopped || count != 1 {
			t.Errorf("stopped is %v, and it was notified %d times, want once", stopped, count)
		}
	})
}
