package main

// unixSockets is the package of unix sockets.
const unixSockets = "./framework/internal/unixsocket"

const (
	socketProven = "a socket is used only if it is proven to be the instance's"
	socketSame   = "a service is the same over its socket"
)

// socketProofs breaks how a socket is proven to be that of an instance.
func socketProofs() []mutant {
	unproven := func(name, in, good, bad string) mutant {
		return mutant{
			name: name, breaks: socketProven, edits: []edit{{pkg: unixSockets, in: in, old: good, new: bad}},
			suites: of(unixSockets, "TestASocketThatIsNotProvenIsNotUsed", "TestOnlyFilesOfTheUserAreTaken"),
		}
	}
	return []mutant{
		unproven("the socket of another host is used", "Dialer.Attach", "socket.Host != d.host()", "false"),
		unproven("another file at the path is used", "checkSocket", "case fileOf(info) != file:", "case false:"),
		unproven("a file of another kind is used", "checkSocket", "case info.Mode().Type() != fs.ModeSocket:", "case false:"),
		unproven("the socket of another user is used", "checkOwner", "owner != user", "owner < 0"),
		unproven("a directory of others is used", "checkDirectory", "info.Mode().Perm()&0o077 != 0", "false"),
		unproven("the path of another instance is used", "checkPath", "|| path != pathOf(at, incarnation)", ""),
		unproven("a socket that fails is logged at each connection", "Dialer.firstFailure", "return !again", "return !again || again"),
		unproven("a socket that fails is not replaced by TCP", "Dialer.Dial", "return conn, nil\n\t}", "return conn, nil\n\t} else if conn == nil {\n\t\treturn nil, err\n\t}"),
		{
			name:   "others may use the socket",
			breaks: socketProven,
			edits:  []edit{{pkg: unixSockets, in: "bind", old: "0o600", new: "0o666"}},
			suites: of(unixSockets, "TestASocketIsTheUsersAloneAndGoesWithItsService"),
		},
		{
			name:   "the sockets of live processes are swept",
			breaks: "only the sockets of processes that have ended are removed",
			edits:  []edit{{pkg: unixSockets, in: "sweepLock", old: "syscall.LOCK_EX|syscall.LOCK_NB) != nil {", new: "syscall.LOCK_UN) != nil {"}},
			suites: of(unixSockets, "TestTheSocketOfAKilledProcessIsRemovedByTheNext", "TestStartsAndEndsAtOnceKeepEachOthersSockets"),
		},
		{
			name:   "the sockets of killed processes stay",
			breaks: "only the sockets of processes that have ended are removed",
			edits:  []edit{{pkg: unixSockets, in: "newLock", old: "sweep(directory)\n", new: ""}},
			suites: of(unixSockets, "TestTheSocketOfAKilledProcessIsRemovedByTheNext"),
		},
	}
}

// sockets breaks what a service is over its socket.
func sockets() []mutant {
	return []mutant{
		{
			name:   "a listener of the program is bypassed",
			breaks: "a service with a listener of the program has no socket",
			edits:  []edit{{pkg: chain, in: "Service.openSocket", old: "|| o.Listener != nil", new: ""}},
			suites: of(facade, "TestTheSocketIsUsedUnlessAnOptionOrADialerForbids"),
			needs:  socket,
		},
		{
			name:   "connections on the socket are not limited with the others",
			breaks: socketSame,
			edits:  []edit{{pkg: chain, in: "Service.accept", old: "from, s.connections}", new: "from, newConnections(s.options.Limits, s.options.Log)}"}},
			suites: of(facade, "TestAPeerOnASocketCountsAsLoopback"),
			needs:  socket,
		},
		{
			name:   "a peer on the socket is another principal than on loopback",
			breaks: socketSame,
			edits:  []edit{{pkg: admission, in: "appendAddress", old: "case *net.UnixAddr:", new: "case *net.IPAddr:"}},
			suites: of(admission, "TestAPrincipalIsWhatACertificateProvesElseAHost"),
		},
		{
			name:   "nothing answers on the socket during a shutdown",
			breaks: socketSame,
			edits:  []edit{{pkg: chain, in: "Service.answerLast", old: "range s.listeners() {", new: "range s.listeners()[:1] {"}},
			suites: of(facade, "TestAnInstanceThatShutsDownAnswersUntilItsHandlersHaveEnded"),
			needs:  socket,
		},
		{
			name:   "an instance that left the registry is asked over TCP",
			breaks: socketSame,
			edits:  []edit{{pkg: unixSockets, in: "Dialer.Dial", old: "remember(d.used, to.incarnation, to.socket)", new: ""}},
			suites: of(facade, "TestAnInstanceThatShutsDownAnswersUntilItsHandlersHaveEnded"),
			needs:  socket,
		},
		{
			name:   "a bus without sockets uses them",
			breaks: "options turn sockets off",
			edits:  []edit{{pkg: calls, in: "NewBus", old: "&& !options.NoSocket", new: ""}},
			suites: of(facade, "TestTheSocketIsUsedUnlessAnOptionOrADialerForbids"),
			needs:  socket,
		},
	}
}
