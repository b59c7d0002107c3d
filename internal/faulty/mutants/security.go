package main

// The packages of security.
const (
	lastGood   = "./internal/lastgood"
	certFiles  = "./internal/certfiles"
	tlsFiles   = "./framework/internal/tlsfiles"
	plainTexts = "./framework/internal/plaintext"
)

// authorization breaks who may call.
func authorization() []mutant {
	return []mutant{
		{
			name:   "what the policy does not name is allowed",
			breaks: "a policy denies by default",
			edits:  []edit{{pkg: chain, in: "authorization.check", old: "if allowed.anyone ||", new: "if allowed.anyone || allowed.names == nil ||"}},
			suites: of(facade, "TestNoPathGetsPastAuthorization", "TestReflectionNeedsAPolicyAndHealthDoesNot", "TestAdmissionIsInItsPlaceOverEachWay"),
		},
		{
			name:   "a caller without a name is allowed",
			breaks: "only the principals of a rule may call",
			edits:  []edit{{pkg: chain, in: "authorization.check", old: `if name != "" && allowed.names[name] {`, new: `if name == "" || allowed.names[name] {`}},
			suites: of(facade, "TestThePolicySaysWhoMayCallWhat"),
		},
		{
			name:   "the path that a method names decides",
			breaks: "the registered method decides who may call it",
			edits:  []edit{{pkg: chain, in: "chain.serveUnary", old: "c.calls.unary[server.MethodOf(ctx)]", new: "c.calls.unary[info.FullMethod]"}},
			suites: of(facade, "TestTheRegisteredMethodDecides"),
		},
		{
			name:   "a method that is not registered is denied",
			breaks: "a call of a method that this instance does not have is retried at others",
			edits:  []edit{{pkg: chain, in: "authorization.stream", old: "!registered &&", new: "!registered && false &&"}},
			suites: of(facade, "TestAMethodThatIsNotRegisteredIsNotDenied"),
		},
		{
			name:   "streams are not authorized",
			breaks: "a policy holds for calls and streams",
			edits:  []edit{{pkg: chain, in: "authorization.stream", old: "err != nil {", new: "err != nil && false {"}},
			suites: of(facade, "TestThePolicySaysWhoMayCallWhat", "TestNoPathGetsPastAuthorization"),
		},
		{
			name:   "the rule of an API applies to an RPC that has its own",
			breaks: "the rule of an RPC replaces that of its API",
			edits:  []edit{{pkg: chain, in: "callable.compile", old: "[]bool{false, true}", new: "[]bool{true, false}"}},
			suites: of(facade, "TestThePolicySaysWhoMayCallWhat"),
		},
		{
			name:   "reflection is open",
			breaks: "a policy covers gRPC's own services, except health",
			edits:  []edit{{pkg: chain, in: "callable.addBuiltin", old: "c.groups[desc.ServiceName] = pathsOf(desc)", new: "c.groups[desc.ServiceName], open = nil, append(open, pathsOf(desc)...)"}},
			suites: of(facade, "TestReflectionNeedsAPolicyAndHealthDoesNot"),
			needs:  connection,
		},
		{
			name:   "a certificate that was not verified names its caller",
			breaks: "a principal is proven",
			edits: []edit{
				{pkg: admission, in: "certificateOf", old: "len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0", new: "len(info.State.PeerCertificates) == 0"},
				{pkg: admission, in: "certificateOf", old: "info.State.VerifiedChains[0][0]", new: "info.State.PeerCertificates[0]"},
			},
			suites: of(admission, "TestTheNameOfAPrincipalIsProven"),
		},
		{
			name:   "a DNS name may look like a SPIFFE ID",
			breaks: "names of two kinds are not confused",
			edits:  []edit{{pkg: admission, in: "PrincipalOf", old: `&& !strings.ContainsAny(leaf.DNSNames[0], ":/")`, new: `&& !strings.ContainsAny(leaf.DNSNames[0], "?")`}},
			suites: of(admission, "TestTheNameOfAPrincipalIsProven"),
		},
	}
}

// transports breaks how connections are protected.
func transports() []mutant {
	return []mutant{
		{
			name:   "plain text beyond loopback is served",
			breaks: "plain text that others can read must be meant",
			edits:  []edit{{pkg: plainTexts, in: "Check", old: "!exposed(listener) ||", new: "!exposed(listener) || creds.IsValid() ||"}},
			suites: of(facade, "TestAServiceInPlainTextListensOnLoopbackUnlessThatIsMeant"),
			needs:  connection,
		},
		{
			name:   "a bus speaks plain text with every instance",
			breaks: "plain text that others can read must be meant",
			edits:  []edit{{pkg: plainTexts, in: "Credentials.ClientHandshake", old: "!p.meant &&", new: "p.meant &&"}},
			suites: of(facade, "TestABusInPlainTextConnectsToLoopbackUnlessThatIsMeant"),
			needs:  connection,
		},
		{
			name:   "certificates are read once",
			breaks: "files that are replaced are used at the next handshake",
			edits:  []edit{{pkg: tlsFiles, in: "fileCredentials.ServerHandshake", old: "using, _ := c.identity.read()", new: "using := c.identity.current"}},
			suites: of(facade, "TestCallsGoOnOverARotation"),
			needs:  connection,
		},
		{
			name:   "no certificate is required",
			breaks: "TLS is mutual unless anonymous callers are allowed",
			edits:  []edit{{pkg: tlsFiles, in: "Identity.credentials", old: "if i.files.AllowAnonymous {", new: "if true {"}},
			suites: of(facade, "TestAConnectionThatIsRefusedSaysWhy"),
			needs:  connection,
		},
		{
			name:   "half a file is used",
			breaks: "a file that is half written leaves the last good one in use",
			edits:  []edit{{pkg: certFiles, in: "certificates", old: "case begun > 0:", new: "case begun > 1000:"}},
			suites: of(certFiles, "TestFilesThatCannotBeUsedLeaveTheLastGoodPair", "TestAPoolThatIsHalfWrittenIsNotUsed"),
		},
		{
			name:   "a wrong file replaces a good one",
			breaks: "while files cannot be used, the last good value stays in use",
			edits: []edit{{
				pkg: lastGood, in: "Value.Read",
				old: "value, err := v.parse(contents)\n\tif err != nil {\n\t\treturn v.value, err\n\t}",
				new: "value, err := v.parse(contents)\n\tif err != nil {\n\t\treturn value, err\n\t}",
			}},
			suites: of(lastGood, "TestTheLastGoodValueStays"),
		},
	}
}
