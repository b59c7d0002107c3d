package main

import (
	"context"
	"encoding/json"
	"io"
	"sync"

	"github.com/onecall-dev/onecall/discovery"
)

// event is a change of an instance's registration.
type event string

const (
	registered event = "registered"
	draining   event = "draining"
	closed     event = "closed"
)

// news is a line that an instance's process writes.
type news struct {
	Event     event                `json:"event"`
	Instances []discovery.Instance `json:"instances,omitempty"`
}

// announcer is the registry of an instance's process. It writes a line for each change,
// which the parent process makes in the real registry.
type announcer struct {
	mu  sync.Mutex // guards out
	out *json.Encoder
}

var _ discovery.Registry = (*announcer)(nil)

func newAnnouncer(out io.Writer) *announcer { return &announcer{out: json.NewEncoder(out)} }

// Register implements [discovery.Registry].
func (a *announcer) Register(instances ...discovery.Instance) (discovery.Registration, error) {
	return &announced{announcer: a}, a.write(news{Event: registered, Instances: instances})
}

// Watch implements [discovery.Registry]. It is never used.
func (*announcer) Watch(string, func(discovery.Snapshot)) func() { return func() {} }

// Descriptors implements [discovery.Registry]. It is never used.
func (*announcer) Descriptors(context.Context, discovery.Instance) (string, error) { return "", nil }

func (a *announcer) write(what news) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out.Encode(what)
}

type announced struct{ announcer *announcer }

// Status implements [discovery.Registration].
func (a *announced) Status() discovery.Status { return discovery.Status{Registered: true} }

// Drain implements [discovery.Registration].
func (a *announced) Drain(context.Context) error { return a.announcer.write(news{Event: draining}) }

// Close implements [discovery.Registration].
func (a *announced) Close(context.Context) error { return a.announcer.write(news{Event: closed}) }
