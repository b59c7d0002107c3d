// Package otel exports the metrics of services, buses and registries to OpenTelemetry, and
// makes spans of calls. It is a module of its own, so that only programs which import it
// have OpenTelemetry in their build.
//
// The names follow the semantic conventions for RPC that are stable since version 1.45:
// see docs/metrics.md and docs/traces.md.
package otel

// scope is the name of the instrumentation scope of metrics and spans.
const scope = "github.com/onecall-dev/onecall"

// schema is the version of the semantic conventions.
const schema = "https://opentelemetry.io/schemas/1.45.0"
