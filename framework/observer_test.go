package framework_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/testlog"
)

// recorder is an observer that keeps events.
type recorder struct {
	mu     sync.Mutex // guards events
	events []framework.Event
}

func (r *recorder) Observe(_ context.Context, event framework.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event)
}

// observed returns the events of one type, in order.
func observed[E framework.Event](r *recorder) (all []E) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, event := range r.events {
		if event, ok := event.(E); ok {
			all = append(all, event)
		}
	}
	return all
}

// panicking is an observer that panics with a secret.
type panicking struct{}

func (panicking) Observe(context.Context, framework.Event) { panic("the password is hunter2") }

func TestAnObserverIsNotNil(t *testing.T) {
	t.Parallel()
	_, err := framework.NewBus(memory.New(), framework.Observe(nil))
	if err == nil || !strings.Contains(err.Error(), "option Observe: the observer is nil") {
		t.Errorf("NewBus = %v", err)
	}
	err = framework.Serve(t.Context(), memory.New(), (&echo{}).register, framework.Observe(nil))
	if err == nil || !strings.Contains(err.Error(), "option Observe: the observer is nil") {
		t.Errorf("Serve = %v", err)
	}
}

func TestTheLifeOfAServiceIsObserved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events, log := new(recorder), new(testlog.Log)
		_, running, _ := inMemory(t, &echo{}, framework.Logger(log.Logger()), framework.Observe(panicking{}), framework.Observe(events))
		synctest.Wait()
		registered := observed[framework.RegistrationChanged](events)
		if len(registered) == 0 || !registered[len(registered)-1].Registered {
			t.Errorf("the registration was observed as %+v", registered)
		}
		if err := running.stop(); err != nil {
			t.Error(err)
		}
		began, ended := observed[framework.ShutdownBegan](events), observed[framework.ShutdownEnded](events)
		if len(began) != 1 || began[0].Timeout != 25*time.Second || len(ended) != 1 || ended[0].Err != nil || ended[0].Duration < 200*time.Millisecond {
			t.Errorf("the shutdown was observed as %+v, %+v", began, ended)
		}
		if log.Count("an observer panicked") == 0 || log.Count("hunter2") != 0 {
			t.Errorf("the log has not the panic, or its value:\n%s", log)
		}
	})
}
