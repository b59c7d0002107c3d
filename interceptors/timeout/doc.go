// Package timeout applies timeouts to unary calls, by the same rule at the caller and at
// the server.
//
// The timeout of a call is that of its call option. If there is none, it is the one that
// the RPC declares, then the one that the API declares, then [Default]. The deadline of
// the caller's context always applies too, if it is earlier. A timeout error names the
// limit that passed. Streams have no default timeout.
//
// At the caller, declared limits are in grpc-go's service config: see [MethodConfigs].
// grpc-go then sets them on the context that it makes for each call anyway, so only a
// call with another limit than the declared one needs an additional context. At the
// server, grpc-go applies the deadline that a call arrived with. This package applies the
// declared limit to calls that arrived without a deadline.
package timeout
