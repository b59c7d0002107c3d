package telemetry

// The keys of attributes. Those without "onecall." are OpenTelemetry's semantic
// conventions for RPC, as stable since version 1.45.
const (
	// SystemKey is always "grpc".
	SystemKey = "rpc.system.name"
	// MethodKey is the method, such as "auth.v1.AuthService/CheckPassword". It is
	// [OtherMethod] for a method that the program does not know.
	MethodKey = "rpc.method"
	// StatusKey is the code of the call, such as "OK" or "DEADLINE_EXCEEDED".
	StatusKey = "rpc.status_code"
	// ErrorKey is the code of the call if it counts as an error, and absent otherwise.
	ErrorKey = "error.type"
	// OutcomeKey says whether the handler ran: "executed", "refused", "not_sent" or
	// "unknown".
	OutcomeKey = "onecall.outcome"
	// APIKey is the bus name of an API, such as "auth".
	APIKey = "onecall.api"
	// ReasonKey is why admission refused a call, such as "DUPLICATE_CALL".
	ReasonKey = "onecall.reason"
	// StateKey is the state of sessions, "active" or "idle", or of instances, "serving"
	// or "draining".
	StateKey = "onecall.state"
)

// OtherMethod is the method of calls whose method the program does not know, so that
// callers cannot make new values.
const OtherMethod = "_OTHER"

// System is the value of [SystemKey].
const System = "grpc"

// The metrics of a service.
var (
	ServerCallDuration = Definition{
		Name: "rpc.server.call.duration", Unit: "s", Kind: Histogram, Attributes: []string{SystemKey, MethodKey, StatusKey, ErrorKey, OutcomeKey},
		Help: "Duration of the calls that arrived, from their arrival to their end, with refused calls.",
	}
	ServerCallsActive = Definition{
		Name: "onecall.server.calls.active", Unit: "{call}", Kind: UpDownCounter, Attributes: []string{MethodKey},
		Help: "Calls and streams whose handlers run now.",
	}
	ServerRefusals = Definition{
		Name: "onecall.server.refusals", Unit: "{call}", Kind: Counter, Attributes: []string{ReasonKey},
		Help: "Calls that admission refused; DUPLICATE_CALL counts copies of calls.",
	}
	ServerShed = Definition{
		Name: "onecall.server.shed", Unit: "{call}", Kind: Counter, Attributes: []string{APIKey},
		Help: "Calls that were refused because their API had too many calls in flight.",
	}
	ServerConnections = Definition{
		Name: "onecall.server.connections", Unit: "{connection}", Kind: UpDownCounter,
		Help: "Connections that are open.",
	}
	ServerConnectionsRefused = Definition{
		Name: "onecall.server.connections.refused", Unit: "{connection}", Kind: Counter,
		Help: "Connections that were closed at once, because there were too many.",
	}
	ServerUnidentified = Definition{
		Name: "onecall.server.calls.unidentified", Unit: "{call}", Kind: Counter,
		Help: "Admitted calls without an identity, which may run more than once.",
	}
	ServerSessions = Definition{
		Name: "onecall.server.sessions", Unit: "{session}", Kind: UpDownCounter, Attributes: []string{StateKey},
		Help: "Sessions of callers that the service remembers; idle ones made no call for a minute.",
	}
	ServerPrincipals = Definition{
		Name: "onecall.server.principals", Unit: "{principal}", Kind: UpDownCounter,
		Help: "Callers that the sessions belong to.",
	}
	ServerRepliesKept = Definition{
		Name: "onecall.server.replies.kept", Unit: "By", Kind: UpDownCounter,
		Help: "Memory of the replies and errors that are kept for callers that ask for them.",
	}
	ServerSettlements = Definition{
		Name: "onecall.server.settlements", Unit: "{question}", Kind: Counter, Attributes: []string{OutcomeKey},
		Help: "Questions of callers about calls of unknown outcome, by the answer; running means that the call had not ended.",
	}
	ServerUnrecorded = Definition{
		Name: "onecall.server.ledger.unrecorded", Unit: "{call}", Kind: Counter,
		Help: "Ends of calls that could not be written to the ledger, so that other instances do not know them.",
	}
	ServiceAPIs = Definition{
		Name: "onecall.service.apis", Unit: "{api}", Kind: UpDownCounter,
		Help: "APIs that the service serves and wants to have registered.",
	}
	ServiceRegistered = Definition{
		Name: "onecall.service.registered", Unit: "{api}", Kind: UpDownCounter,
		Help: "APIs of the service that are registered: all or none.",
	}
	ServiceRegistryErrors = Definition{
		Name: "onecall.service.registry.errors", Unit: "{service}", Kind: UpDownCounter,
		Help: "Services that cannot write to their registry now.",
	}
	ServiceDrainDuration = Definition{
		Name: "onecall.service.drain.duration", Unit: "s", Kind: Gauge,
		Help: "Time since the graceful shutdown began, or how long it took; absent before.",
	}
)

// The metrics of a bus.
var (
	ClientCallDuration = Definition{
		Name: "rpc.client.call.duration", Unit: "s", Kind: Histogram, Attributes: []string{SystemKey, MethodKey, StatusKey, ErrorKey, OutcomeKey},
		Help: "Duration of the calls that the program made, with their retries and waits.",
	}
	ClientRetries = Definition{
		Name: "onecall.client.retries", Unit: "{attempt}", Kind: Counter, Attributes: []string{APIKey},
		Help: "Attempts that were retries.",
	}
	ClientSettlements = Definition{
		Name: "onecall.client.settlements", Unit: "{call}", Kind: Counter, Attributes: []string{OutcomeKey},
		Help: "Calls of unknown outcome for which the bus asked the instance, by what it learned; forgotten means that nothing can be learned.",
	}
	ClientOutages = Definition{
		Name: "onecall.client.outages", Unit: "{outage}", Kind: Counter, Attributes: []string{APIKey},
		Help: "How often an API that the program calls lost its last instance, or had none at first.",
	}
	ClientUnavailable = Definition{
		Name: "onecall.client.unavailable", Kind: Gauge, Attributes: []string{APIKey},
		Help: "1 while an API that the program calls has no instance, else 0.",
	}
	ClientInstances = Definition{
		Name: "onecall.client.instances", Unit: "{instance}", Kind: Gauge, Attributes: []string{APIKey, StateKey},
		Help: "Instances of an API that the program knows.",
	}
	ClientInstancesAge = Definition{
		Name: "onecall.client.instances.age", Unit: "s", Kind: Gauge, Attributes: []string{APIKey},
		Help: "How old the list of instances is: 0 while the registry can be read.",
	}
	ClientRetryTokens = Definition{
		Name: "onecall.client.retry.tokens", Unit: "{token}", Kind: UpDownCounter,
		Help: "Tokens of the retry throttle; a bus with less than 10 does not retry calls that may have run.",
	}
	ClientSchemasIncompatible = Definition{
		Name: "onecall.client.schemas.incompatible", Unit: "{schema}", Kind: Counter,
		Help: "Schemas of instances that are incompatible with the program's own.",
	}
)

// The metrics of a registry on etcd.
var (
	RegistryRegistrations = Definition{
		Name: "onecall.registry.registrations", Unit: "{registration}", Kind: UpDownCounter,
		Help: "Registrations that this process has made and not closed.",
	}
	RegistryRegistered = Definition{
		Name: "onecall.registry.registered", Unit: "{registration}", Kind: UpDownCounter,
		Help: "Registrations that are in etcd.",
	}
	RegistryLeaseLeft = Definition{
		Name: "onecall.registry.lease.left", Unit: "s", Kind: Gauge,
		Help: "How long registrations stay in etcd without another keep-alive.",
	}
	RegistryWritable = Definition{
		Name: "onecall.registry.writable", Kind: Gauge,
		Help: "1 while etcd can be written to, as far as the process knows, else 0.",
	}
	RegistryReadable = Definition{
		Name: "onecall.registry.readable", Kind: Gauge,
		Help: "1 while etcd can be read from, as far as the process knows, else 0.",
	}
	RegistryAPIs = Definition{
		Name: "onecall.registry.apis", Unit: "{api}", Kind: UpDownCounter,
		Help: "APIs that are watched.",
	}
	RegistrySkipped = Definition{
		Name: "onecall.registry.skipped", Unit: "{value}", Kind: Counter,
		Help: "Values of instances that could not be used.",
	}
)

// The metrics of the files of security, of services and buses. Each is absent without its
// option.
var (
	TLSExpiring = Definition{
		Name: "onecall.tls.expiring", Kind: Gauge,
		Help: "1 while a certificate of option TLS has expired, or expires within 30 days or a quarter of its lifetime, else 0.",
	}
	TLSUnusable = Definition{
		Name: "onecall.tls.unusable", Kind: Gauge,
		Help: "1 while the files of option TLS cannot be used, so that earlier ones stay in use, else 0.",
	}
	PolicyUnusable = Definition{
		Name: "onecall.policy.unusable", Kind: Gauge,
		Help: "1 while the file of option AuthorizeFile cannot be used, so that an earlier policy stays in use, else 0.",
	}
)

// LogDropped is the metric of the log of calls, of services and buses.
var LogDropped = Definition{
	Name: "onecall.log.dropped", Unit: "{line}", Kind: Counter,
	Help: "Lines of calls that were not logged, because the logger is too slow.",
}

// Definitions returns all metrics of the framework, in the order of docs/metrics.md.
func Definitions() []Definition {
	return []Definition{
		ServerCallDuration, ServerCallsActive, ServerRefusals, ServerShed, ServerUnidentified, ServerConnections,
		ServerConnectionsRefused, ServerSessions, ServerPrincipals, ServerRepliesKept, ServerSettlements, ServerUnrecorded,
		ServiceAPIs, ServiceRegistered, ServiceRegistryErrors, ServiceDrainDuration,
		ClientCallDuration, ClientRetries, ClientSettlements, ClientOutages, ClientUnavailable, ClientInstances, ClientInstancesAge,
		ClientRetryTokens, ClientSchemasIncompatible,
		RegistryRegistrations, RegistryRegistered, RegistryLeaseLeft, RegistryWritable, RegistryReadable, RegistryAPIs, RegistrySkipped,
		TLSExpiring, TLSUnusable, PolicyUnusable,
		LogDropped,
	}
}

// Value returns a metric of the definition with one point. values are those of the keys of
// the definition, in their order.
func (d Definition) Value(value float64, values ...string) Metric {
	return Metric{Definition: d, Points: []Point{d.Point(value, values...)}}
}

// Point returns a point of the definition: see [Definition.Value].
func (d Definition) Point(value float64, values ...string) Point {
	point := Point{Value: value}
	for i, of := range values {
		point.Attributes = append(point.Attributes, Attribute{Key: d.Attributes[i], Value: of})
	}
	return point
}

// Flag returns 1 for true and 0 for false.
func Flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
