package admin

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/onecall-dev/onecall/discovery"
)

// Service is a service that the page shows.
type Service interface {
	// Inspect returns the present state of the service.
	Inspect() ServiceStatus
}

// Bus is a bus that the page shows.
type Bus interface {
	// Inspect returns the present state of each API that the bus calls.
	Inspect() []APIStatus
}

// Status is what the page shows. It has no message, metadata or secret.
type Status struct {
	At       time.Time       `json:"at"`
	Program  Program         `json:"program"`
	Services []ServiceStatus `json:"services"`
	RPCs     []RPC           `json:"rpcs"`
	APIs     []APIStatus     `json:"apis"`
	Registry []Value         `json:"registry"`
	Recent   []Recent        `json:"recent"`
}

// Program is the program of the page.
type Program struct {
	Name    string        `json:"name"`
	Version string        `json:"version"`
	Go      string        `json:"go"`
	PID     int           `json:"pid"`
	Uptime  time.Duration `json:"uptimeNanoseconds"`
}

// ServiceStatus is the state of a service.
type ServiceStatus struct {
	Address string `json:"address"`
	// Draining says that the graceful shutdown has begun.
	Draining   bool `json:"draining"`
	Registered bool `json:"registered"`
	// RegistrationError is why the registry cannot be written, "" if it can.
	RegistrationError string     `json:"registrationError,omitempty"`
	Instances         []Instance `json:"instances"`
	// ActiveSessions made a call within the last minute.
	ActiveSessions int `json:"activeSessions"`
	IdleSessions   int `json:"idleSessions"`
	Principals     int `json:"principals"`
	InFlight       int `json:"inFlight"`
}

// APIStatus is the state of an API that a bus calls.
type APIStatus struct {
	API string `json:"api"`
	// Unavailable is why a call would find no instance, "" if there is one.
	Unavailable string `json:"unavailable,omitempty"`
	// ListAge is how old the list of instances is: 0 while the registry can be read.
	ListAge   time.Duration `json:"listAgeNanoseconds"`
	Instances []Instance    `json:"instances"`
	// More is how many instances are not listed.
	More int `json:"more,omitempty"`
}

// Instance is an instance of an API.
type Instance struct {
	API         string    `json:"api"`
	Service     string    `json:"service"`
	Address     string    `json:"address"`
	Incarnation string    `json:"incarnation"`
	State       string    `json:"state"`
	Zone        string    `json:"zone"`
	Version     string    `json:"version"`
	Schema      string    `json:"schema"`
	Started     time.Time `json:"started"`
}

// maxInstances is how many instances of an API are listed at most.
const maxInstances = 100

// Instances returns instances as the page shows them, and how many it does not show.
func Instances(all []discovery.Instance) (shown []Instance, more int) {
	shown = make([]Instance, 0, min(len(all), maxInstances))
	for _, instance := range all[:min(len(all), maxInstances)] {
		state := instance.State
		if state == "" {
			state = discovery.Serving
		}
		shown = append(shown, Instance{
			API: instance.API, Service: instance.Service, Address: instance.Address, Incarnation: instance.Incarnation.String(),
			State: string(state), Zone: instance.Zone, Version: instance.Version, Schema: instance.Schema, Started: instance.Started,
		})
	}
	return shown, len(all) - len(shown)
}

// RPC is what was counted of an RPC in the last minute, and since the start.
type RPC struct {
	// Side is "serves" or "calls".
	Side   string `json:"side"`
	Method string `json:"method"`
	// Rate and ErrorRate are calls and failed calls per second in the last minute.
	Rate      float64 `json:"perSecond"`
	ErrorRate float64 `json:"errorsPerSecond"`
	// P50 and P99 are durations of calls in the last minute, in seconds; 0 without one.
	P50 float64 `json:"p50Seconds"`
	P99 float64 `json:"p99Seconds"`
	// Calls and Errors are since the start, and Errors are by outcome.
	Calls  uint64            `json:"calls"`
	Errors map[string]uint64 `json:"errors"`
}

// Value is a metric that the page shows as a number.
type Value struct {
	Name  string  `json:"name"`
	Help  string  `json:"help"`
	Value float64 `json:"value"`
}

// Recent is a call that was slow or failed.
type Recent struct {
	At       time.Time     `json:"at"`
	Side     string        `json:"side"`
	RPC      string        `json:"rpc"`
	Code     string        `json:"code"`
	Outcome  string        `json:"outcome"`
	Took     time.Duration `json:"tookNanoseconds"`
	Attempts int           `json:"attempts,omitempty"`
	Address  string        `json:"instance,omitempty"`
	Call     string        `json:"call,omitempty"`
	Err      string        `json:"error,omitempty"`
}

// The sides of a call.
const (
	serves = "serves"
	calls  = "calls"
)

// status returns what the page shows now.
func (s *Server) status() Status {
	now := time.Now()
	status := Status{At: now, Program: program(now.Sub(s.started)), RPCs: s.window.rpcs(), Recent: s.recent.list()}
	services, buses := s.shown()
	status.Services, status.APIs = make([]ServiceStatus, 0, len(services)), []APIStatus{}
	for _, service := range services {
		status.Services = append(status.Services, service.Inspect())
	}
	for _, bus := range buses {
		status.APIs = append(status.APIs, bus.Inspect()...)
	}
	status.Registry = s.registryValues()
	return status
}

// program describes this program.
func program(uptime time.Duration) Program {
	described := Program{Name: filepath.Base(os.Args[0]), Go: runtime.Version(), PID: os.Getpid(), Uptime: uptime}
	if info, ok := debug.ReadBuildInfo(); ok {
		described.Version = info.Main.Version
	}
	return described
}
