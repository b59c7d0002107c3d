package main

// inProcess is the package of calls that leave the network out.
const inProcess = "./internal/inprocess"

// withoutNetwork breaks calls that leave the network out.
func withoutNetwork() []mutant {
	return []mutant{
		{
			name:   "a call over a link is not bound",
			breaks: "a call that leaves the network out carries an identity, and is made once",
			edits: []edit{{
				pkg: client, in: "Channel.overLink", imports: []string{"google.golang.org/grpc/metadata"},
				old: "identity, err := attempt.bind(bound, link.to, nil, nil)", new: "identity, err := metadata.MD(nil), error(nil)\n\t_ = bound",
			}},
			suites: of(facade, "TestEachWayIsTheSame"),
			needs:  link,
		},
		{
			name:   "a link past a proxy",
			breaks: "a call passes everything that is between the two ends of its connection",
			edits:  []edit{{pkg: inProcess, in: "Offer.Link", old: "!direct(here, there)", new: "here == there"}},
			suites: of(facade, "TestWhatOnlyAConnectionCanDoGoesOverIt"),
			needs:  link,
		},
		{
			name:   "options of connections are ignored",
			breaks: "a call with an option that only a connection can honour goes over it",
			edits:  []edit{{pkg: inProcess, in: "embedsEmpty", old: "return false\n\t}\n\tfound := false", new: "return true\n\t}\n\tfound := false"}},
			suites: of(facade, "TestWhatOnlyAConnectionCanDoGoesOverIt"),
			needs:  link,
		},
		{
			name:   "no deadline over a link",
			breaks: "the caller of a call over a link waits no longer than the declared timeout",
			edits:  []edit{{pkg: calls, in: "Route.next", old: "before != nil || linked", new: "before != nil"}},
			suites: of(facade, "TestACallOverALinkHasItsDeadlineAtTheCaller"),
			needs:  link,
		},
		{
			name:   "a connection's limit of calls is ignored",
			breaks: "a connection has no more calls over its link than it may have",
			edits:  []edit{{pkg: inProcess, in: "Link.enter", old: "l.running.Add(1) > l.server.perConnection || ", new: "l.running.Add(1) < 0 || "}},
			suites: of(facade, "TestAConnectionsLimitOfCallsHoldsWithoutIt"),
			needs:  link,
		},
		{
			name:   "a stream without a window",
			breaks: "a stream holds a bounded number of bytes",
			edits:  []edit{{pkg: inProcess, in: "queue.push", old: "q.size == 0 || q.size+size <= window", new: "q.size+size >= 0"}},
			suites: of(facade, "TestAStreamHoldsABoundedNumberOfBytes"),
		},
	}
}

// madeLate breaks the contexts of calls that leave the network out, which are made when the
// program waits for them.
func madeLate() []mutant {
	return []mutant{
		{
			name:   "a handler over a link without its deadline",
			breaks: "the context of a handler has the deadline of its call",
			edits:  []edit{{pkg: inProcess, in: "Unary.Invoke", old: "u.handling.deadline = first.Add(lag)", new: "_ = first"}},
			suites: of(facade, "TestAHandlersContextEndsWithItsCall"),
		},
		{
			name:   "a context over a link ends with an error of its own",
			breaks: "the context of a handler ends as one of package context does",
			edits:  []edit{{pkg: inProcess, in: "handling.end", old: "h.err = context.Canceled", new: "h.err = errLeft"}},
			suites: of(facade, "TestAHandlersContextIsKeptAfterItsCall"),
		},
		{
			name:   "contexts that derive from a linked handler's wait in goroutines",
			breaks: "a context that derives from a handler's costs no goroutine",
			edits:  []edit{{pkg: inProcess, in: "handling.Value", old: "key == contextkey.Cause", new: "key == nil"}},
			suites: of(facade, "TestAContextThatDerivesFromAHandlersHasNoGoroutine"),
		},
		{
			name:   "metadata of a call over a link is not the caller's",
			breaks: "a handler has the metadata of its own call",
			edits:  []edit{{pkg: inProcess, in: "arriving", old: "!isReserved(key) && len(values) > 0", new: "isReserved(key)"}},
			suites: of(facade, "TestAHandlersContextIsKeptAfterItsCall"),
		},
		{
			name:   "a program's codec is left out",
			breaks: "messages of a call over a link are encoded by the codec that the program registered",
			edits:  []edit{{pkg: inProcess, in: "Server.marshal", old: "ok && s.plainCodec", new: "ok"}},
			suites: of(inProcess, "TestMessagesAreEncodedAsTheCodecDoes"),
		},
		{
			name:   "an attempt that goes on after its deadline",
			breaks: "the context of an attempt ends at its deadline, also if nothing waits for it",
			edits:  []edit{{pkg: client, in: "Attempt.Err", old: "time.Now().Before(a.made.Add(a.limit))", new: "time.Now().Before(a.made.Add(a.limit + time.Hour))"}},
			suites: of(client, "TestTheEndOfAnAttemptIsThatOfItsDeadline"),
		},
		{
			name:   "an attempt that goes on after its call",
			breaks: "the context of an attempt ends when the call returns",
			edits:  []edit{{pkg: client, in: "Attempt.endLimit", old: "a.timed.Load().cancel()", new: "_ = a.timed.Load()"}},
			suites: of(client, "TestTheEndOfAnAttemptIsThatOfItsDeadline"),
		},
	}
}
