package framework

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
	"github.com/onecall-dev/onecall/framework/internal/tlsfiles"
	"github.com/onecall-dev/onecall/internal/envconfig"
)

// The prefix of all variables, and those of variables that other packages read.
const envPrefix = "ONECALL_"

var otherEnvPrefixes = []string{"ONECALL_ETCD_"}

// environment has the variables of [FromEnv].
type environment struct {
	Listen          string        `env:"ONECALL_LISTEN"`
	Advertise       string        `env:"ONECALL_ADVERTISE"`
	ShutdownTimeout time.Duration `env:"ONECALL_SHUTDOWN_TIMEOUT"`
	LameDuck        time.Duration `env:"ONECALL_LAME_DUCK"`
	Grace           time.Duration `env:"ONECALL_TERMINATION_GRACE_PERIOD"`
	Zone            string        `env:"ONECALL_ZONE"`
	CA              string        `env:"ONECALL_TLS_CA"`
	Cert            string        `env:"ONECALL_TLS_CERT"`
	Key             string        `env:"ONECALL_TLS_KEY"`
	AllowAnonymous  bool          `env:"ONECALL_TLS_ALLOW_ANONYMOUS"`
	Insecure        bool          `env:"ONECALL_INSECURE"`
	Policy          string        `env:"ONECALL_POLICY_FILE"`
	MaxInFlight     int           `env:"ONECALL_MAX_IN_FLIGHT"`
	Admin           string        `env:"ONECALL_ADMIN"`
	SocketDir       string        `env:"ONECALL_SOCKET_DIR"`
	NoSocket        bool          `env:"ONECALL_NO_SOCKET"`
}

// pages are the status pages of the environment.
var pages struct {
	sync.Mutex

	of map[string]Option // by address
}

// page returns the status page of ONECALL_ADMIN. A service and the buses of a program
// share it.
func (e environment) page() Option {
	pages.Lock()
	defer pages.Unlock()
	found, ok := pages.of[e.Admin]
	if !ok {
		found = Admin(e.Admin)
		if pages.of == nil {
			pages.of = make(map[string]Option)
		}
		pages.of[e.Admin] = found
	}
	return found
}

// FromEnv sets options from variables of the environment whose names begin with ONECALL_,
// such as ONECALL_LISTEN for [ListenOn]. The page docs/configuration.md lists them. Other
// options that the program sets have precedence, wherever FromEnv is in their list. A
// variable that is empty counts as not set. One that is not known or has a wrong value is
// an error of [Serve] or [NewBus], which names it.
//
// Variables that begin with ONECALL_ETCD_ are for etcd.FromEnv.
func FromEnv() Option { return fromEnv{} }

// fromEnv is FromEnv. It is applied after all other options.
type fromEnv struct{}

func (fromEnv) applyToServe(*server.Options) error { return nil }

func (fromEnv) applyToBus(*client.Options) error { return nil }

// isFromEnv reports whether an option is [FromEnv].
func isFromEnv[O any](option O) bool {
	_, is := any(option).(fromEnv)
	return is
}

// readEnvironment returns the variables, none if no option is [FromEnv].
func readEnvironment[O any](options []O) (environment, error) {
	if !slices.ContainsFunc(options, isFromEnv[O]) {
		return environment{}, nil
	}
	read, err := envconfig.Read[environment](envPrefix, otherEnvPrefixes...)
	if err != nil {
		return environment{}, fmt.Errorf("option FromEnv: %w", err)
	}
	return read, nil
}

// tls returns option TLS with the files of the environment, nil if there are none. Its
// files are replaced by credentials of the program.
func (e environment) tls() *tlsfiles.Files {
	if e.CA == "" && e.Cert == "" && e.Key == "" {
		return nil
	}
	return &tlsfiles.Files{CA: e.CA, Cert: e.Cert, Key: e.Key, AllowAnonymous: e.AllowAnonymous, Default: true}
}

// variable is an option that the environment sets, with the name of its variable.
type variable[O any] struct {
	name   string
	option O
}

// serve returns the options of a service that the environment sets and the program does
// not.
func (e environment) serve(set server.Options) []ServeOption {
	var options []variable[ServeOption]
	add := func(name string, unset bool, option ServeOption) {
		if unset {
			options = append(options, variable[ServeOption]{name, option})
		}
	}
	add("ONECALL_LISTEN", e.Listen != "" && set.Listen == nil, ListenOn(e.Listen))
	add("ONECALL_ADVERTISE", e.Advertise != "" && set.AdvertiseAs == "", AdvertiseAs(e.Advertise))
	add("ONECALL_SHUTDOWN_TIMEOUT", e.ShutdownTimeout != 0 && set.ShutdownTimeout == 0, ShutdownTimeout(e.ShutdownTimeout))
	add("ONECALL_LAME_DUCK", e.LameDuck != 0 && set.LameDuck == 0, LameDuck(e.LameDuck))
	add("ONECALL_TERMINATION_GRACE_PERIOD", e.Grace != 0 && set.TerminationGrace == 0, TerminationGracePeriod(e.Grace))
	add("ONECALL_POLICY_FILE", e.Policy != "" && set.Policy == nil && set.PolicyFile == "", AuthorizeFile(e.Policy))
	_, limited := set.InFlight[""]
	add("ONECALL_MAX_IN_FLIGHT", e.MaxInFlight != 0 && !limited, MaxInFlight(e.MaxInFlight))
	add("ONECALL_SOCKET_DIR", e.SocketDir != "" && set.SocketDir == "" && !set.NoSocket, SocketDir(e.SocketDir))
	add("ONECALL_NO_SOCKET", e.NoSocket && set.SocketDir == "", NoSocket())
	for _, both := range e.both(set.Zone, set.TLS, set.Insecure, set.Admin != nil) {
		add(both.name, true, both.option)
	}
	var out []ServeOption
	for _, each := range options {
		out = append(out, serveOption(func(o *server.Options) error { return each.explain(each.option.applyToServe(o)) }))
	}
	return out
}

// bus is serve for a bus.
func (e environment) bus(set client.Options) []BusOption {
	var out []BusOption
	for _, each := range e.both(set.Zone, set.TLS, set.Insecure, set.Admin != nil) {
		out = append(out, busOption(func(o *client.Options) error { return each.explain(each.option.applyToBus(o)) }))
	}
	if e.NoSocket {
		out = append(out, NoSocket())
	}
	return out
}

// explain adds the name of the variable to an error.
func (v variable[O]) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("option FromEnv: variable %s: %w", v.name, err)
}

// both returns the options for both sides that the program does not set.
func (e environment) both(zone string, files *tlsfiles.Files, insecure, admin bool) []variable[Option] {
	var options []variable[Option]
	if e.Admin != "" && !admin {
		options = append(options, variable[Option]{"ONECALL_ADMIN", e.page()})
	}
	if e.Zone != "" && zone == "" {
		options = append(options, variable[Option]{"ONECALL_ZONE", Zone(e.Zone)})
	}
	if files != nil || insecure {
		return options
	}
	if found := e.tls(); found != nil {
		options = append(options, variable[Option]{"ONECALL_TLS_*", tlsOption(found)})
	}
	if e.Insecure {
		options = append(options, variable[Option]{"ONECALL_INSECURE", Insecure()})
	}
	return options
}
