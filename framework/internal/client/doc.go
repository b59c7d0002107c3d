// Package client makes the calls of a bus: it has one object for each API, and a route for
// each method. Start at [Route.Call].
package client
