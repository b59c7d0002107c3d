package main

import (
	"fmt"
	"slices"
	"strings"
)

// way is a way that calls take from a bus to an instance. The tests of package framework
// take it by their flag -way: see ways_test.go there. The zero way is the one that they take
// without the flag.
type way struct {
	name string
	// has is what calls go over.
	has []part
	// broken has each call over the way panic. It is needed if a bus may choose another
	// way: a test that passes nevertheless has no calls that take this one.
	broken []edit
}

// part is what calls go over on some ways, and not on others.
type part string

const (
	connection part = "a connection"
	socket     part = "a unix socket"
	link       part = "a link within the process"
	noCall     part = "what is no call" // so no way has it
)

// ways are all ways.
var ways = []way{
	{name: "tcp", has: []part{connection}},
	{name: "socket", has: []part{connection, socket}},
	{name: "process", has: []part{link}, broken: linkBroken},
	{name: "process, beside TCP", has: []part{link}, broken: linkBroken},
}

// linkBroken has each call over a link panic.
var linkBroken = []edit{
	{pkg: client, in: "Channel.overLink", old: "if link == nil {", new: "if link != nil {\n\t\tpanic(\"broken\")\n\t}\n\tif link == nil {"},
	{pkg: client, in: "Channel.streamOverLink", old: "if link == nil {", new: "if link != nil {\n\t\tpanic(\"broken\")\n\t}\n\tif link == nil {"},
}

// wayOf returns the way of a name, and the zero way for "".
func wayOf(name string) (way, error) {
	if name == "" {
		return way{}, nil
	}
	if at := slices.IndexFunc(ways, func(w way) bool { return w.name == name }); at >= 0 {
		return ways[at], nil
	}
	return way{}, fmt.Errorf("-way: there is no way %q, but %s", name, wayNames())
}

// wayNames returns the names of all ways as a list.
func wayNames() string {
	names := make([]string, len(ways))
	for i, w := range ways {
		names[i] = fmt.Sprintf("%q", w.name)
	}
	return strings.Join(names, ", ")
}

// lacks reports whether calls over the way do not have what a mutant breaks.
func (w way) lacks(m mutant) bool {
	return w.name != "" && m.needs != "" && !slices.Contains(w.has, m.needs)
}

// suites returns the suites of a mutant that can take the way: those of package framework.
func (w way) suites(m mutant) []suite {
	if w.name == "" {
		return m.suites
	}
	return slices.DeleteFunc(slices.Clone(m.suites), func(s suite) bool { return s.pkg != facade })
}

// flags are those of the test binary of a suite.
func (w way) flags() []string {
	if w.name == "" {
		return nil
	}
	return []string{"-way=" + w.name}
}
