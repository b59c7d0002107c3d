package main

import "slices"

// The packages that keep the promise.
const (
	client    = "./interceptors/atmostonce/client" // the caller's half
	admission = "./interceptors/atmostonce/server" // the server's half
	calls     = "./framework/internal/client"      // the calls of a bus
	chain     = "./framework/internal/server"      // what runs around a handler
	facade    = "./framework"
)

// of returns the suite of one package's tests.
func of(pkg string, tests ...string) []suite { return []suite{{pkg: pkg, tests: tests}} }

// mutants returns all mutants.
func mutants() []mutant {
	return slices.Concat(binding(), sending(), reported(), layers(), retries(), settling(), server(), places(), sessions(), windows(),
		settles(), settlesWithLedger(), limits(), authorization(), transports(), observing(), named(), schemas(), socketProofs(), sockets(), withoutNetwork(), madeLate())
}

// named breaks streams by name.
func named() []mutant {
	return []mutant{
		{
			name:   "a unary RPC begun as a stream",
			breaks: "only streams are begun by name as streams",
			edits:  []edit{{pkg: calls, in: "methodFor", old: "case stream && !is:", new: "case false:"}},
			suites: of(facade, "TestOnlyStreamsAreStreamedByName"),
		},
		{
			name:   "a call waits for the rules of another RPC",
			breaks: "a first call compiles the rules of its own messages only",
			edits:  []edit{{pkg: calls, in: "Bus.addRoute", old: "schemas.CompileRule(of, listed)", new: "schemas.CompileRule(of, &of.RPCs[0])"}},
			suites: of(facade, "TestABadRuleIsAnErrorAtTheStart"),
			needs:  noCall,
		},
	}
}

// sending breaks in which context the identity is.
func sending() []mutant {
	return []mutant{
		{
			name:   "the identity in metadata that is not sent",
			breaks: "a call carries its identity if a stats.Handler replaced its metadata",
			edits:  []edit{{pkg: client, in: "sending.isRead", old: "return found", new: "return found || true"}},
			suites: of(client, "TestTheIdentityIsSentOnceWhateverTheMetadata"),
		},
		{
			name:   "a second invocation has the context of the first",
			breaks: "only the context of the pick that bound an attempt has the identity",
			edits:  []edit{{pkg: client, in: "Attempt.newSending", old: "made.attempt != nil", new: "false"}},
			suites: of(client, "TestTheIdentityIsOnlyInTheContextOfItsPick"),
		},
		{
			name:   "the identity stays in the context",
			breaks: "nothing has the identity of an attempt whose pick has ended",
			edits:  []edit{{pkg: client, in: "Attempt.done", old: "a.sent.stamp = nil", new: "_ = a.sent"}},
			suites: of(client, "TestTheIdentityIsOnlyInTheContextOfItsPick"),
		},
		{
			name:   "metadata that others read is used again",
			breaks: "what was read of one call is never the identity of another",
			edits:  []edit{{pkg: client, in: "stamp.release", old: "s.reads == 1 && streamed", new: "s.reads > 0"}},
			suites: of(client, "TestWhatOthersReadKeepsItsValue"),
		},
		{
			name:   "an unknown grpc-go is trusted",
			breaks: "the identity is in the result of the pick unless grpc-go is known to read the metadata later",
			edits:  []edit{{pkg: client, in: "sending.isRead", old: "s == nil || !readsLate", new: "s == nil"}},
			suites: of(client, "TestAnUnknownGRPCGetsTheIdentityFromThePick"),
		},
	}
}

// binding breaks how the caller's half assigns identities.
func binding() []mutant {
	return []mutant{
		{
			name:   "pick guard off",
			breaks: "an attempt that may have left is never bound again",
			edits:  guardOff(),
			suites: of(client, "TestAnAttemptIsNotBoundAgainOnceItMayHaveLeft"),
		},
		{
			name:   "binding off: the identity is of another incarnation",
			breaks: "a call is bound to the incarnation of the connection that was picked",
			edits: []edit{{
				pkg: client, in: "binding.Pick", imports: []string{"github.com/onecall-dev/onecall/discovery"},
				old: "attempt.bind(bound, *incarnation, ", new: "attempt.bind(bound, discovery.NewIncarnation(), ",
			}},
			suites: of(facade, "TestAProcessThatTakesOverAnAddressIsAnotherInstance", "TestARefusedCallIsRetriedElsewhereIfItsCauseMayBeAbsentThere", "TestGeneratedClientsCallThroughABus"),
			needs:  connection,
		},
		{
			name:   "binding off: the attempt is not bound",
			breaks: "a call to an instance that knows identities carries one",
			edits:  []edit{{pkg: client, in: "binding.Pick", old: "attempt.bind(bound, *incarnation, sent, result.Done)", new: "metadata.MD(nil), error(nil)"}},
			suites: of(facade, "TestACallIsSentOnceWhateverThePeerSays", "TestNumbersAreNotReusedAfterABusWasIdle", "TestACallerCannotForgeAnIdentity"),
			needs:  connection,
		},
		{
			name:   "counters reset when a balancer is rebuilt",
			breaks: "counters outlive balancers, so that no identity is used twice",
			edits: []edit{
				{pkg: client, in: "policyBuilder.Build", old: "p := &policy{", new: "rebuilt.Add(1)\n\tp := &policy{"},
				{pkg: client, in: "callerSession", old: "struct {", new: "struct {\n\tbuilt atomic.Uint64\n", declares: "var rebuilt atomic.Uint64"},
				{
					pkg: client, in: "Caller.identify", old: "found, ok := (*c.session.Load()",
					new: "session := c.session.Load()\n\tif at := rebuilt.Load(); session.built.Swap(at) != at {\n" +
						"\t\tsession.lanes.Store(&map[discovery.Incarnation]*lane{})\n\t}\n\tfound, ok := (*c.session.Load()",
				},
			},
			suites: of(facade, "TestNumbersAreNotReusedAfterABusWasIdle", "TestServicesTakeTurnsDuringCalls"),
		},
		{
			name:   "numbers are drawn however late others are",
			breaks: "no call is overtaken by as many others as a server's window is wide",
			edits:  []edit{{pkg: client, in: "counter.draw", old: "last+1 >= c.raise()+atmostonce.WindowSize {", new: "last+1 >= c.raise()+8*atmostonce.WindowSize {"}},
			suites: of(client, "TestNoCallIsSoLateThatItLooksLikeACopy"),
		},
		{
			name:   "a caller for each issue",
			breaks: "a bus has one session, which it renews when it has expired and at no other time",
			edits:  []edit{{pkg: client, in: "Attempt.bind", old: "a.channel.caller.identify(incarnation)", new: "NewCaller().identify(incarnation)"}},
			suites: of(facade, "TestARefusedCallIsRetriedElsewhereIfItsCauseMayBeAbsentThere", "TestOnlyRefusedCallsAreRetriedOverEachWay"),
		},
	}
}

// reported breaks the outcomes that the caller's half reports, and what it accepts.
func reported() []mutant {
	return []mutant{
		{
			name:   "a broken connection is told as not sent",
			breaks: "a call that got a stream may have run, whatever came back",
			edits:  []edit{{pkg: client, in: "Attempt.done", old: "if info.BytesSent {", new: "if info.BytesSent && info.BytesReceived {"}},
			suites: []suite{
				{pkg: client, tests: []string{"TestAnAttemptIsNotBoundAgainOnceItMayHaveLeft"}},
				{pkg: facade, tests: []string{"TestACallIsSentOnceWhateverThePeerSays", "TestALostReplyIsSettledOverEachWay"}},
			},
		},
		{
			name:   "a pick under way is told as not sent",
			breaks: "a call that is bound may be on its way until its pick has ended",
			edits:  []edit{{pkg: client, in: "Attempt.Outcome", old: "case a.picked: return atmostonce.Unknown", new: "case a.picked:\n\t\treturn atmostonce.NotSent"}},
			suites: of(client, "TestAnAttemptIsNotBoundAgainOnceItMayHaveLeft"),
		},
		{
			name:   "the outcome is read as refused",
			breaks: "the outcome of a handler's error is that the call ran",
			edits:  []edit{{pkg: client, in: "parseTrailer", old: "return atmostonce.Executed, true", new: "return atmostonce.Refused, true"}},
			suites: of(client, "TestTheOutcomeIsWhatTheBoundInstanceSays"),
		},
		{
			name:   "the outcome of another instance is believed",
			breaks: "an outcome counts only if it comes from the instance that the call was bound to",
			edits:  []edit{{pkg: client, in: "parseTrailer", old: " || from[0] != bound.String()", new: ""}},
			suites: of(client, "TestTheOutcomeIsWhatTheBoundInstanceSays"),
		},
		{
			name:   "reserved metadata is passed on",
			breaks: "a program or a gateway cannot forge an identity",
			edits:  []edit{{pkg: client, in: "prepare", old: "if strings.HasPrefix(key, atmostonce.Prefix) {", new: "if strings.HasPrefix(key, atmostonce.Prefix) && false {"}},
			suites: []suite{
				{pkg: client, tests: []string{"TestReservedMetadataIsNotPassedOn"}},
				{pkg: facade, tests: []string{"TestACallerCannotForgeAnIdentity", "TestACallerCannotForgeAnIdentityOverEachWay"}},
			},
		},
		{
			name:   "what an interceptor left behind is sent",
			breaks: "nothing is sent of a call that has returned to the program",
			edits:  []edit{{pkg: client, in: "Attempt.bindable", old: "case a.ended:", new: "case false:"}},
			suites: of(facade, "TestAnAttemptThatAnInterceptorLeftBehindIsNeverSent", "TestACallThatReturnedIsNotMadeOverEachWay"),
		},
		{
			name:   "an attempt takes any call's pick",
			breaks: "an interceptor's own call does not take the place of the call",
			edits:  []edit{{pkg: client, in: "Attempt.check", old: "case a.channel.id != channel || a.method != method:", new: "case false:"}},
			suites: of(facade, "TestAnInterceptorsOwnCallDoesNotTakeThePlaceOfTheCall"),
		},
		{
			name:   "a retry interceptor around the bus is not noticed",
			breaks: "a retry that the framework cannot know is an error, not a second call",
			edits:  detectorOff(),
			suites: of(facade, "TestARetryInterceptorAroundTheBusIsAConfigurationError", "TestNoInterceptorOfACallerRunsACallTwiceOverEachWay"),
		},
	}
}

// guardOff lets an attempt be bound again after it may have left.
func guardOff() []edit {
	return []edit{
		{pkg: client, in: "Attempt.bindable", old: "case a.picked || a.left:", new: "case false:"},
	}
}

// detectorOff accepts retries of an interceptor.
func detectorOff() []edit {
	return []edit{{pkg: client, in: "prepare", old: "&& attempt.mayBind() {", new: "&& attempt.mayBind() && false {"}}
}

// bufferOn lets grpc-go buffer a request, so that it can send it again by itself.
func bufferOn() []edit {
	return []edit{{pkg: calls, in: "dialOptions", old: "grpc.WithDefaultCallOptions(grpc.MaxRetryRPCBufferSize(0)),", new: ""}}
}

// retriesOn makes grpc-go retry by a policy of the service config.
func retriesOn() []edit {
	return append(bufferOn(),
		edit{pkg: calls, in: "dialOptions", old: "grpc.WithDisableRetry(),", new: ""},
		edit{
			pkg: calls, in: "serviceConfig", old: "timeout.MethodConfigs(limits),",
			new: `[]map[string]any{{"name": []map[string]any{{}}, "retryPolicy": map[string]any{
			"maxAttempts": 5, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1,
			"retryableStatusCodes": []string{"UNAVAILABLE", "INTERNAL", "CANCELLED"},
		}}},`,
		})
}

// layers remove the layers that keep grpc-go and others from sending a call again. The
// pick guard alone is enough. Without the guard, one more layer that is off breaks the
// promise.
func layers() []mutant {
	const sentOnce = "TestACallIsSentOnceWhateverThePeerSays"
	return []mutant{
		{
			name:     "all that suppresses retries off but the pick guard",
			breaks:   "the pick guard alone keeps a call from being sent again",
			edits:    slices.Concat(retriesOn(), detectorOff()),
			suites:   of(facade, sentOnce),
			needs:    connection,
			harmless: true,
		},
		{
			name:   "retries by service config on, pick guard off",
			breaks: "no retry policy sends a call again",
			edits:  slices.Concat(retriesOn(), guardOff()),
			suites: of(facade, sentOnce),
			needs:  connection,
		},
		{
			name:   "the retry buffer on, pick guard off",
			breaks: "grpc-go itself does not send a request again that a peer says it refused",
			edits:  slices.Concat(bufferOn(), guardOff()),
			suites: of(facade, sentOnce),
			needs:  connection,
		},
		{
			name:   "the detector of retries and the pick guard off",
			breaks: "a retry interceptor inside the chain is suppressed",
			edits:  slices.Concat(detectorOff(), guardOff()),
			suites: of(facade, sentOnce, "TestNoInterceptorOfACallerRunsACallTwiceOverEachWay"),
		},
	}
}

// settling breaks how the bus asks what became of a call.
func settling() []mutant {
	return []mutant{
		{
			name:   "another instance is asked",
			breaks: "only the instance that a call was bound to is asked what became of it",
			edits:  []edit{{pkg: client, in: "Attempt.place", old: "!a.asks || settles || a.identity.Incarnation == incarnation", new: "true"}},
			suites: of(client, "TestAQuestionIsSentToItsInstanceAlone"),
		},
		{
			name:   "the question is of another identity",
			breaks: "the question names the attempt that may have run",
			edits: []edit{{
				pkg: calls, in: "retry.settlement", old: "identity := r.unknown.Identity()",
				new: "identity := r.unknown.Identity()\n\tidentity.Seq++",
			}},
			suites: of(facade, "TestALostReplyIsAskedFor", "TestACallThatArrivesAfterItsDeadlineIsFenced", "TestALostReplyIsSettledOverEachWay"),
		},
		{
			name:   "a refusal counts although an earlier attempt may have run",
			breaks: "a call is refused only if none of its attempts may have run",
			edits:  []edit{{pkg: calls, in: "settlement.unsettled", old: "refused && !s.several", new: "refused"}},
			suites: of(facade, "TestAnIdempotentCallIsRetriedAndNotAsked"),
			needs:  connection,
		},
		{
			name:   "an answer that is not known is taken for a refusal",
			breaks: "what an instance does not know is not known",
			edits:  []edit{{pkg: calls, in: "answer.outcome", old: "default: return atmostonce.Unknown", new: "default:\n\t\treturn atmostonce.Refused"}},
			suites: of(facade, "TestACallWhoseTimePassedIsSettledByHand"),
			needs:  connection,
		},
		{
			name:   "a call of a health service is asked for",
			breaks: "calls that are not marked are not asked for, because the instance would refuse them",
			edits:  []edit{{pkg: calls, in: "retry.settlement", old: "|| contract.IsBuiltin(service)", new: "|| service == \"\""}},
			suites: of(facade, "TestACallOfGRPCsOwnServicesIsNotAskedFor"),
			needs:  connection,
		},
		{
			name:   "the error of a call shows its session",
			breaks: "the identity of a call is in no text",
			edits:  []edit{{pkg: calls, in: "settlement.unsettled", old: `text += "the instance has refused it for good"`, new: `text += "the instance has refused it for good: " + s.identity.Value()`}},
			suites: of(facade, "TestTheErrorOfACallHidesItsIdentity"),
			needs:  connection,
		},
	}
}

// retries break what the bus may retry.
func retries() []mutant {
	return []mutant{
		{
			name:   "issued again after unknown, whatever the RPC declares",
			breaks: "a call that may have run is retried only if its RPC declares that it is idempotent",
			edits:  []edit{{pkg: calls, in: "retry.mayRepeat", old: "if !r.route.idempotent || ", new: "if "}},
			suites: of(facade, "TestACallIsSentOnceWhateverThePeerSays", "TestACallThatWasCutOffIsNotMadeElsewhereOverEachWay"),
		},
		{
			name:   "issued again for a session that expired for the handler",
			breaks: "the handler's own error is the call's, also when it passes on an inner call's",
			edits:  []edit{{pkg: client, in: "Attempt.conclude", old: "a.trusted && a.outcome != atmostonce.Executed && atmostonce.ReasonOf", new: "a.trusted && atmostonce.ReasonOf"}},
			suites: of(facade, "TestARefusedCallIsRetriedElsewhereIfItsCauseMayBeAbsentThere", "TestOnlyRefusedCallsAreRetriedOverEachWay"),
		},
		{
			name:   "issued again after the handler ran",
			breaks: "the handler's own error is the call's",
			edits:  []edit{{pkg: calls, in: "retry.allowed", old: "case atmostonce.Executed: return false", new: "case atmostonce.Executed:\n\t\treturn notRun && mayDifferElsewhere(failed.err, code)"}},
			suites: of(facade, "TestARefusedCallIsRetriedElsewhereIfItsCauseMayBeAbsentThere", "TestOnlyRefusedCallsAreRetriedOverEachWay"),
		},
		{
			name:   "issued again without end",
			breaks: "a call that was not sent or was refused is retried three times at most",
			edits:  []edit{{pkg: calls, in: "notRunRetries", old: "3", new: "30"}},
			suites: of(facade, "TestARefusedCallIsRetriedElsewhereIfItsCauseMayBeAbsentThere", "TestOnlyRefusedCallsAreRetriedOverEachWay"),
		},
		{
			name:   "issued again for an expired session, however old the call is",
			breaks: "a call that the server may have run and forgotten is not retried",
			edits:  []edit{{pkg: client, in: "Attempt.Renew", old: "return a.age() < forgottenAfter", new: "return true"}},
			suites: of(client, "TestACallOfADayAgoIsNotRetriedForAnExpiredSession"),
		},
		{
			name:   "an expired session is believed from anybody",
			breaks: "a refusal of the session counts from the instance that the call was bound to",
			edits:  []edit{{pkg: client, in: "Attempt.conclude", old: "a.trusted && a.outcome != atmostonce.Executed && atmostonce.ReasonOf", new: "a.outcome != atmostonce.Executed && atmostonce.ReasonOf"}},
			suites: of(client, "TestAnExpiredSessionIsBelievedFromTheBoundInstanceAlone"),
		},
		{
			name:   "no budget of repeats",
			breaks: "the throttle limits retries of calls that may have run",
			edits:  []edit{{pkg: calls, in: "retry.mayRepeat", old: "|| !r.bus.throttle.take()", new: ""}},
			suites: of(facade, "TestRetriesAreBoundedByRecentReplies"),
			needs:  connection,
		},
		{
			name:   "an earlier issue that may have run is left out of the outcome",
			breaks: "once an attempt of a call may have run, the call's outcome is never not sent or refused",
			edits:  []edit{{pkg: calls, in: "retry.outcome", old: "if r.repeats > 0 && last != atmostonce.Executed {", new: "if false {"}},
			suites: of(facade, "TestACallThatMayHaveRunOnceIsNotToldAsRefused", "TestACallThatWasCutOffIsNotMadeElsewhereOverEachWay"),
		},
	}
}

// server breaks admission and what the server reports of it.
func server() []mutant {
	return []mutant{
		{
			name:   "incarnation not checked",
			breaks: "an instance runs only calls that are bound to it",
			edits:  []edit{{pkg: admission, in: "Server.admit", old: "if identity.Incarnation != s.config.Incarnation {", new: "if false {"}},
			suites: of(admission, "TestRefusalsNameTheReasonAndTheInstance"),
		},
		{
			name:   "the outcome trailer always says refused",
			breaks: "the trailer reports whether the handler ran",
			edits:  []edit{{pkg: admission, in: "serverCall.end", old: "return atmostonce.OutcomeExecuted", new: "return atmostonce.OutcomeRefused"}},
			suites: of(admission, "TestAnErrorReplySaysWhetherTheHandlerRan"),
		},
		{
			name:   "a duplicate is told as refused",
			breaks: "a copy's refusal does not say that the call never ran",
			edits:  []edit{{pkg: admission, in: "Server.refuseResult", old: `s.refuse(ctx, atmostonce.DuplicateCall, "",`, new: "s.refuse(ctx, atmostonce.DuplicateCall, atmostonce.OutcomeRefused,"}},
			suites: of(admission, "TestAnAdmittedCallRunsOnceAndItsCopiesAreRefused"),
		},
		{
			name:   "a handler starts after its call was told as refused",
			breaks: "once the caller received that a call was refused, its handler never starts",
			edits: []edit{
				{pkg: admission, in: "serverCall.end", old: "c.state.CompareAndSwap(pending, ended)", new: ""},
				{pkg: admission, in: "serverCall.end", old: "case ended:", new: "case pending, ended:"},
			},
			suites: of(admission, "TestAHandlerDoesNotStartOnceTheCallerReadThatItDidNot"),
		},
		{
			name:   "a handler starts as often as an interceptor calls it",
			breaks: "an interceptor of the server cannot run a handler twice",
			edits:  []edit{{pkg: admission, in: "serverCall.start", old: "if c.state.CompareAndSwap(pending, started) {", new: "if c.state.CompareAndSwap(pending, started) || c.state.Load() == started {"}},
			suites: of(admission, "TestAHandlerStartsOnceHoweverOftenAnInterceptorCallsIt"),
		},
		{
			name:   "more than one identity is read",
			breaks: "a call with two identities is malformed",
			edits:  []edit{{pkg: admission, in: "soleIdentity", old: "if len(values) != 1 {", new: "if false {"}},
			suites: of(admission, "TestMalformedIdentitiesAreRefusedBeforeAnyState"),
		},
	}
}

// places breaks what runs before and after admission, and which metadata programs see.
func places() []mutant {
	return []mutant{
		{
			name:   "a context that survives the caller's cancel",
			breaks: "a handler's context ends at once when the caller cancels the call",
			edits:  []edit{{pkg: admission, in: "serverCall.arrivalEnded", old: "if !disconnected(c.Context) {", new: "if false {"}},
			suites: of(facade, "TestTheContextOfAHandlerOutlivesItsConnection", "TestAHandlersContextEndsWithItsCallerOverEachWay"),
		},
		{
			name:   "a context that ends with its connection",
			breaks: "what has begun to change something is finished without its caller",
			edits:  []edit{{pkg: admission, in: "serverCall.arrivalEnded", old: "if !disconnected(c.Context) {", new: "if true {"}},
			suites: of(facade, "TestTheContextOfAHandlerOutlivesItsConnection"),
			needs:  connection,
		},
		{
			name:   "a method that calls no interceptor is served",
			breaks: "no API is served without what runs around its handlers",
			edits:  []edit{{pkg: admission, in: "unaryMethod.admit", old: "if !call.entered.Load() {", new: "if false {"}},
			suites: of(facade, "TestNoAPIIsServedWithoutAdmission", "TestAMethodWithoutAdmissionIsNotServedOverEachWay"),
		},
		{
			name:   "a call runs another one's handler",
			breaks: "a call stays the same, whatever context an interceptor passes on",
			edits:  []edit{{pkg: admission, in: "serverCall.pin", old: "if callOf(ctx) == c {", new: "if callOf(ctx) != nil {"}},
			suites: of(admission, "TestACallStaysTheSameWhateverContextAnInterceptorPassesOn"),
		},
		{
			name:   "interceptors after admission are not pinned",
			breaks: "a call stays the same, whatever context an interceptor after admission passes on",
			edits:  []edit{{pkg: chain, in: "chain.order", old: "server.Pin(chainUnary(o.After.unary))", new: "chainUnary(o.After.unary)"}},
			suites: of(facade, "TestAnInterceptorAfterAdmissionMayReplaceTheContext"),
		},
		{
			name:   "rules are checked when the handler has started",
			breaks: "a request that breaks rules is refused, and not executed",
			edits: []edit{{
				pkg: admission, in: "serverCall.invoke", old: "return inner(ctx, req, c.info, runHandler)",
				new: "if err := c.start(); err != nil { return nil, err }; return inner(ctx, req, c.info, c.handler)",
			}},
			suites: of(admission, "TestACallThatAnInterceptorAnywhereEndsSaysWhetherItsHandlerRan"),
		},
		{
			name:   "a request that was refused is told as executed",
			breaks: "of a stream with one request the method starts when that was read",
			edits:  []edit{{pkg: admission, in: "Server.instrumentStream", old: "if !desc.ClientStreams {", new: "if false {"}},
			suites: of(facade, "TestARequestThatIsRefusedBeforeItsMethodRanIsToldSo", "TestARequestThatIsRefusedIsToldSoOverEachWay"),
		},
		{
			name:   "handlers see identities",
			breaks: "an identity is a secret that no handler passes on",
			edits:  []edit{{pkg: admission, in: "serverCall.Value", old: "return c.incoming()", new: "return c.Context.Value(key)"}},
			suites: of(facade, "TestHandlersAndInterceptorsSeeNoReservedMetadata"),
		},
		{
			name:   "what an inner instance says is passed on",
			breaks: "a handler cannot speak in its server's name by passing on an inner call's trailer",
			edits:  []edit{{pkg: client, in: "hideReserved", old: "*opt.TrailerAddr = atmostonce.WithoutReserved(*opt.TrailerAddr)", new: ""}},
			suites: of(facade, "TestATrailerThatAHandlerPassesOnIsNotBelievedAsItsServers"),
		},
		{
			name:   "calls are admitted before they are authenticated",
			breaks: "who is not authenticated takes no session",
			edits: []edit{{
				pkg: admission, in: "unaryMethod.arrived",
				old: "return m.server.before(",
				new: "if _, err := m.server.admit(ctx, call); err != nil { return nil, err }\n return m.server.before(",
			}},
			suites: of(facade, "TestWhoIsNotAuthenticatedTakesNoSessionAndLearnsNoRule", "TestAdmissionIsInItsPlaceOverEachWay"),
		},
	}
}

// sessions breaks what the server remembers, and when it forgets.
func sessions() []mutant {
	return []mutant{
		{
			name:   "forgetting without raising the bound",
			breaks: "what was forgotten is refused for good",
			edits:  []edit{{pkg: admission, in: "sessions.sweepShard", old: "s.raise(created)\n\t\ts.quota.release", new: "s.quota.release"}},
			suites: of(admission, "TestASessionIsForgottenWhenItIsIdleForADayAndOldEnough", "TestACopyOfAnyAgeIsRefused", "TestWhatWasAdmittedIsNeverAdmittedAgain"),
		},
		{
			name:   "the bound is raised after the session was forgotten",
			breaks: "no call finds neither the session nor a bound below which it lies",
			edits: []edit{
				{pkg: admission, in: "sessions.sweepShard", old: "s.raise(created)\n\t\ts.quota.release", new: "defer func() { go s.raise(created) }()\n\t\ts.quota.release"},
			},
			suites: of(admission, "TestForgettingRacesWithACopy", "TestASessionIsForgottenWhenItIsIdleForADayAndOldEnough"),
		},
		{
			name:   "sessions below the bound are begun",
			breaks: "no session that may have been forgotten is begun",
			edits:  []edit{{pkg: admission, in: "sessions.begin", old: "if created <= s.bound.Load() {", new: "if false {"}},
			suites: of(admission, "TestASessionIsForgottenWhenItIsIdleForADayAndOldEnough", "TestAnOutdatedSessionNeverBegins"),
		},
		{
			name:   "an outdated session does not raise the bound",
			breaks: "a call that was refused for its age is always refused",
			edits:  []edit{{pkg: admission, in: "sessions.begin", old: "s.raise(created)\n\t\treturn nil, outdated", new: "return nil, outdated"}},
			suites: of(admission, "TestAnOutdatedSessionNeverBegins"),
		},
		{
			name:   "sessions of the future are begun",
			breaks: "no session fills a cap for good",
			edits:  []edit{{pkg: admission, in: "sessions.begin", old: "if created > s.now().Add(horizon).UnixMilli() {", new: "if false {"}},
			suites: of(admission, "TestASessionOfTheFutureIsRefusedUntilClocksAreRight"),
		},
		{
			name:   "a session is forgotten within a day near a cap",
			breaks: "a session is kept for a day after its last call, as callers reckon",
			edits:  []edit{{pkg: admission, in: "sessions.sweepShard", old: "if idle < forgetAfter || left", new: "if idle < forgetAfter && !s.quota.nearlyFull(known.principal) || left"}},
			suites: of(admission, "TestASessionIsKeptForADayThoughACapIsReached"),
		},
		{
			name:   "admission not atomic",
			breaks: "of two copies at the same moment one is admitted",
			edits: []edit{
				{
					pkg: admission, in: "sessions.mark", imports: []string{"runtime"}, old: "if !known.accept(seq) {",
					new: "fresh := seq > known.highest\n\tif known.window != nil {\n\t\ttried, highest := *known.window, known.highest\n\t\tfresh = tried.accept(&highest, seq)\n\t}\n" +
						"\tshard.mu.Unlock()\n\truntime.Gosched()\n\tshard.mu.Lock()\n\tknown.accept(seq)\n\tif !fresh {",
				},
			},
			suites: of(admission, "TestOneOfManyCopiesAtTheSameMomentIsAdmitted"),
		},
	}
}

// windows breaks what the server remembers of a session's numbers, and of its
// principal.
func windows() []mutant {
	return []mutant{
		{
			name:   "marking dropped",
			breaks: "a number that was admitted is not admitted again",
			edits:  []edit{{pkg: admission, in: "window.accept", old: "*at |= bit", new: ""}},
			suites: of(admission, "TestAWindowAcceptsEachNumberOnceAndNoneBelowIt", "TestAnAdmittedCallRunsOnceAndItsCopiesAreRefused"),
		},
		{
			name:   "a number below the window is admitted",
			breaks: "what is too old to be known is refused",
			edits:  []edit{{pkg: admission, in: "window.accept", old: "*highest-seq >= atmostonce.WindowSize:", new: "*highest-seq >= 2*atmostonce.WindowSize:"}},
			suites: of(admission, "TestAWindowAcceptsEachNumberOnceAndNoneBelowIt", "TestFiveMillionRandomArrivalsAreAcceptedAtMostOnce"),
		},
		{
			name:   "a collapsed session opens an empty window",
			breaks: "of a session that was collapsed all numbers up to the highest count as admitted",
			edits: []edit{
				{pkg: admission, in: "newWindow", old: "if highest == 0 {", new: "if highest >= 0 {"},
				{pkg: admission, in: "session.accept", old: "if seq <= s.highest {", new: "if false {"},
			},
			suites: of(admission, "TestAnIdleSessionIsCollapsedToItsHighestNumber", "TestWhatWasAdmittedIsNeverAdmittedAgain"),
		},
		{
			name:   "a collapsed session that is used again forgets its numbers",
			breaks: "of a session that was collapsed all numbers up to the highest count as admitted, also once it is used again",
			edits:  []edit{{pkg: admission, in: "newWindow", old: "if highest == 0 {", new: "if highest >= 0 {"}},
			suites: of(admission, "TestAnIdleSessionIsCollapsedToItsHighestNumber", "TestAWindowThatContinuesTakesAllUpToItsHighestForAccepted"),
		},
		{
			name:   "sessions are parted by address",
			breaks: "a copy that comes from another address is a copy",
			edits:  []edit{{pkg: admission, in: "principal.scope", old: "return 0", new: "return p"}},
			suites: of(admission, "TestOneSessionCannotUseUpAnothersNumbers"),
		},
		{
			name:   "the cap of a principal off",
			breaks: "one principal cannot fill the server's memory",
			edits:  []edit{{pkg: admission, in: "quota.take", old: "q.perPrincipal[p] >= q.each", new: "q.perPrincipal[p] > 1<<30"}},
			suites: of(admission, "TestTheCapsHold"),
		},
	}
}

// settles breaks what the server answers about calls.
func settles() []mutant {
	return []mutant{
		{
			name:   "settling is not atomic",
			breaks: "a number is looked up and marked in one step",
			edits: []edit{
				{
					pkg: admission, in: "sessions.settle", imports: []string{"runtime"}, old: "if shared = shard.isShared(key); shared || !marks {",
					new: "shard.mu.Unlock()\n\truntime.Gosched()\n\tshard.mu.Lock()\n\tif shared = shard.isShared(key); shared || !marks {",
				},
				{pkg: admission, in: "sessions.settle", old: "if result != admitted {\n\t\treturn settled{}, false", new: "if result != admitted {\n\t\treturn settled{fate: fateRefused}, false"},
			},
			suites: of(admission, "TestSettlesAndCopiesAtTheSameMoment", "TestASettleIsNeverFalse"),
		},
		{
			name:   "settled as refused without marking",
			breaks: "a call that was settled as refused never runs",
			edits: []edit{{
				pkg: admission, in: "sessions.settle", old: "known, result := s.mark(",
				new: "if known := shard.sessions[key]; known != nil && seq > known.highest {\n\t\treturn settled{fate: fateRefused}, false\n\t}\n\tknown, result := s.mark(",
			}},
			suites: of(admission, "TestASettleIsNeverFalse", "TestSettlesAndCopiesAtTheSameMoment"),
		},
		{
			name:   "another session is answered",
			breaks: "only the session of a call learns what became of it",
			edits:  []edit{{pkg: admission, in: "Server.questionOf", old: " || asked.Session != asker.Session", new: ""}},
			suites: of(admission, "TestStrangersLearnAndMarkNothing"),
		},
		{
			name:   "another principal is answered",
			breaks: "only the principal of a call learns what became of it",
			edits:  []edit{{pkg: admission, in: "Server.questionOf", old: "principalOf(ctx, s.sessions.seed)", new: "principalOf(call.Context, s.sessions.seed)"}},
			suites: of(admission, "TestStrangersLearnAndMarkNothing", "TestALostReplyOfANamedPrincipalIsReturned"),
		},
		{
			name:   "a number of a shared session is marked",
			breaks: "a call that may be of another principal is not settled as refused",
			edits:  []edit{{pkg: admission, in: "sessions.settle", old: "shared || !marks", new: "!marks"}},
			suites: of(admission, "TestAnotherScopeOfASessionIsLeftAlone", "TestStrangersLearnAndMarkNothing"),
		},
		{
			name:   "a settled number runs with another principal",
			breaks: "a call that was settled as refused does not run, whoever a copy comes from",
			edits:  []edit{{pkg: admission, in: "sessions.begin", old: "if seq <= highest {", new: "if false {"}},
			suites: of(admission, "TestAnotherScopeOfASessionIsLeftAlone", "TestASettleIsNeverFalse"),
		},
		{
			name:   "the reply of another number is returned",
			breaks: "a caller receives the reply of its own call",
			edits:  []edit{{pkg: admission, in: "sessions.keep", old: "recent.kept[k.seq] = k", new: "recent.kept[k.seq+1] = k"}},
			suites: of(admission, "TestASettleIsNeverFalse", "TestALostReplyIsReturned"),
		},
		{
			name:   "a recycled slot answers for another number",
			breaks: "what is forgotten is unknown",
			edits:  []edit{{pkg: admission, in: "recent.advance", old: "r.fates[word%recentWords] = 0", new: ""}},
			suites: of(admission, "TestARecycledSlotIsOfNoOtherNumber", "TestASettleIsNeverFalse"),
		},
	}
}

// settlesWithLedger breaks what the server answers if instances share a ledger.
func settlesWithLedger() []mutant {
	return []mutant{
		{
			name:   "settled as refused, and a copy runs at another instance",
			breaks: "with a ledger, a call is settled as refused only once its key is taken",
			edits:  []edit{{pkg: admission, in: "Server.settleOnce", old: "s.config.Ledger == nil)", new: "true)"}},
			suites: of(admission, "TestWithALedgerAnUnmarkedCallIsTakenFromAllInstances", "TestWithoutItsLedgerNothingIsRefused"),
		},
		{
			name:   "refused for the ledger is settled as refused",
			breaks: "a call whose key may be free in the ledger is not settled as refused",
			edits:  []edit{{pkg: admission, in: "Server.finish", old: "case outcome == atmostonce.OutcomeRefused && phase == accepted:", new: "case false:"}},
			suites: of(admission, "TestWithALedgerAnUnmarkedCallIsTakenFromAllInstances", "TestWithoutItsLedgerNothingIsRefused"),
		},
		{
			name:   "what the ledger has forgotten is settled as refused",
			breaks: "a call that the ledger may have forgotten is not settled as refused",
			edits:  []edit{{pkg: admission, in: "Server.askLedger", old: "if q.age > s.ledger.Retention()/agePart {", new: "if false {"}},
			suites: of(admission, "TestWhatALedgerMayHaveForgottenIsUnknown"),
		},
		{
			name:   "the ledger answers for another principal",
			breaks: "only the principal of a call learns what became of it, at every instance",
			edits:  []edit{{pkg: admission, in: "Server.askLedger", old: "!known || entry.Owner != owner", new: "!known"}},
			suites: of(admission, "TestAnyInstanceAnswersForACallOfTheLedger"),
		},
		{
			name:   "the end of a call is written to the key of a copy",
			breaks: "the end of a call is not recorded once its key may be that of a copy",
			edits:  []edit{{pkg: admission, in: "recorder.run", old: "time.Since(end.of.at) >= r.ledger.Retention() ||", new: ""}},
			suites: of(admission, "TestTheEndOfACallOlderThanTheLedgerIsNotRecorded"),
		},
	}
}
