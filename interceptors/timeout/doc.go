// Package timeout holds unary calls to one rule of time, at the caller and at
// the server.
//
// A call may take what its call option says, else what its RPC declares, else
// what its API declares, else [Default]; and never longer than the caller's own
// deadline. An error of time says which of these it was. Streams have no
// default.
//
// At the caller, declared limits are part of grpc-go's service config, which
// puts them on the one context that grpc-go makes for a call anyway: see
// [MethodConfigs]. Only a call whose limit is not the declared one needs a
// context of its own. At the server a call that came with a deadline is held to
// it by grpc-go, and only one without gets the declared limit here.
package timeout
