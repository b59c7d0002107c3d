package main

// limits breaks what protects a service, and its shutdown.
func limits() []mutant {
	return []mutant{
		{
			name:   "more calls than the limit run",
			breaks: "no more calls of an API are under way than its limit",
			edits:  []edit{{pkg: chain, in: "inFlight.begin", old: "if running >= l.most {", new: "if running > 2*l.most {"}},
			suites: of(facade, "TestACallAboveTheLimitOfItsAPIIsRefused", "TestNoMoreCallsRunThanMay", "TestEachEndOfACallMakesRoomOverEachWay"),
		},
		{
			name:   "the end of a call makes no room",
			breaks: "a limit counts the calls that run, and no others",
			edits:  []edit{{pkg: chain, in: "chain.serveUnary", old: "defer running.limit.end()", new: ""}},
			suites: of(facade, "TestEachEndOfACallMakesRoomForAnother", "TestEachEndOfACallMakesRoomOverEachWay"),
		},
		{
			name:   "streams have no limit",
			breaks: "a limit holds for calls and streams",
			edits:  []edit{{pkg: chain, in: "chain.limitStream", old: "if !limit.begin() {", new: "if limit.begin(); false {"}},
			suites: of(facade, "TestACallAboveTheLimitOfItsAPIIsRefused", "TestEachEndOfACallMakesRoomOverEachWay"),
		},
		{
			name:   "every shed call is retried",
			breaks: "retries do not add to an overload",
			edits:  []edit{{pkg: calls, in: "retry.mayRetryShed", old: "|| r.route.client.api.shed.take()", new: "|| true"}},
			suites: of(facade, "TestFewCallsThatWereShedAreRetried", "TestOnlyRefusedCallsAreRetriedOverEachWay"),
		},
		{
			name:   "a host takes all connections",
			breaks: "one host leaves connections to others",
			edits:  []edit{{pkg: chain, in: "connections.take", old: "c.hosts[host] >= c.limits.ConnectionsPerHost", new: "false"}},
			suites: of(facade, "TestConnectionsAboveALimitAreClosed"),
			needs:  connection,
		},
		{
			name:   "the end of a connection makes no room",
			breaks: "a limit counts the connections that are open, and no others",
			edits:  []edit{{pkg: chain, in: "countedConn.Close", old: "c.closed()", new: ""}},
			suites: of(facade, "TestConnectionsAboveALimitAreClosed"),
			needs:  connection,
		},
		{
			name:   "a grace that cuts calls off",
			breaks: "the age of a connection cuts off no call that has time left",
			edits:  []edit{{pkg: chain, in: "Limits.checkGrace", old: "method.Limit.Duration > l.ConnectionGrace", new: "false"}},
			suites: of(facade, "TestALimitThatMakesNoSenseIsAnError"),
			needs:  connection,
		},
		{
			name:   "no lame duck",
			breaks: "a lame duck serves callers that learn late",
			edits:  []edit{{pkg: chain, in: "shutdown.leave", old: "pause(context.Background(), rest)", new: ""}},
			suites: of(facade, "TestALameDuckServesPlainCallers"),
			needs:  connection,
		},
	}
}
