package main

// page is the package of the status page.
const page = "./framework/internal/admin"

// observing breaks traces and the status page.
func observing() []mutant {
	return []mutant{
		{
			name:   "a trace context ends at a service",
			breaks: "a trace context is always passed on",
			edits:  []edit{{pkg: calls, in: "retry.trace", old: "if len(parents) != 1 {", new: "if true {"}},
			suites: of(facade, "TestATraceContextIsPassedOn"),
		},
		{
			name:   "the status page for every name of a host",
			breaks: "no site can read the status page through a browser",
			edits:  []edit{{pkg: page, in: "guard", old: "case loopback && !isLocalHost(r.Host):", new: "case false:"}},
			suites: of(facade, "TestTheStatusPageIsReadOnlyAndLocal"),
			needs:  noCall,
		},
	}
}
