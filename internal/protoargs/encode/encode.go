package encode

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/nearest"
	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/quote"
)

// maxCounted bounds the problems that are only counted. Then the search for problems ends.
const maxCounted = 1000

// encoder fills one request.
type encoder struct {
	plan *Plan
	// explain is true if all problems are wanted, with texts.
	explain  bool
	problems []Problem
	more     int
	// stop is true if the encoder must not read any more values.
	stop bool
	path fieldpath.Path
	// hidden is the number of redacted fields around the current value.
	hidden int
	depth  int
	// size is a lower bound for the bytes on the wire of the values read so far. It
	// bounds the work for values that contain one another many times.
	size int
	// large is true if the request would be too large.
	large    bool
	versions protoargs.Versions
	// requires caches contract.Required for fields that are messages, where it may have
	// to read many types.
	requires map[protoreflect.FieldDescriptor]bool
}

// fail records a problem of the current value. It always returns false.
func (e *encoder) fail(kind Kind, format string, args ...any) bool {
	switch {
	case !e.explain:
	case len(e.problems) < maxProblems:
		e.problems = append(e.problems, Problem{Path: e.path.Text(protoargs.MaxPath), Text: fmt.Sprintf(format, args...), Kind: kind})
	default:
		e.more++
		e.stop = e.stop || e.more >= maxCounted
	}
	return false
}

// full reports whether the next problem is only counted.
func (e *encoder) full() bool { return !e.explain || len(e.problems) >= maxProblems }

// halt reports whether to stop after a problem.
func (e *encoder) halt() bool { return !e.explain || e.stop }

// push adds a step to the path. The path is only kept if errors are wanted, which show it.
func (e *encoder) push(at fieldpath.Step) {
	if e.explain {
		e.path = append(e.path, at)
	}
}

// pop removes the last step.
func (e *encoder) pop() {
	if e.explain {
		e.path = e.path[:len(e.path)-1]
	}
}

// enter must be called before a value that contains others, and leave after it.
func (e *encoder) enter() bool {
	if e.depth > protoargs.MaxDepth {
		e.fail(TooDeep, "lies within more than %d other values: does a value hold itself?", protoargs.MaxDepth)
		e.stop = true
		return false
	}
	e.depth++
	return true
}

func (e *encoder) leave() { e.depth-- }

// charge adds bytes to size. It returns false if the request would be too large.
func (e *encoder) charge(bytes int) bool {
	e.size += bytes
	if e.size <= e.plan.limit {
		return true
	}
	e.large, e.stop = true, true
	return false
}

const missingText = "is missing: it takes %s"

// message fills a message from named values.
func (e *encoder) message(into protoreflect.Message, args map[string]any) bool {
	if !e.enter() {
		return false
	}
	defer e.leave()
	ok, known := true, 0
	fields := into.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		value, given := args[string(field.Name())]
		switch {
		case given:
			known++
			ok = e.alone(field, args) && ok
			ok = e.field(field, into, value) && ok
		case e.required(field):
			ok = e.failAt(string(field.Name()), Missing, missingText, wants(field))
		}
		if !ok && e.halt() {
			return false
		}
	}
	if known == len(args) {
		return ok
	}
	if e.explain {
		e.unknownNames(into.Descriptor(), args)
	}
	return false
}

// required reports whether a call must set a field.
func (e *encoder) required(field protoreflect.FieldDescriptor) bool {
	if field.Message() == nil {
		return contract.Required(field)
	}
	required, ok := e.requires[field]
	if !ok {
		if e.requires == nil {
			e.requires = make(map[protoreflect.FieldDescriptor]bool)
		}
		required = contract.Required(field)
		e.requires[field] = required
	}
	return required
}

// alone reports whether args have no earlier member of the field's oneof.
func (e *encoder) alone(field protoreflect.FieldDescriptor, args map[string]any) bool {
	oneof := field.ContainingOneof()
	for i := 0; oneof != nil && oneof.Fields().Get(i).Number() != field.Number(); i++ {
		other := oneof.Fields().Get(i).Name()
		if _, given := args[string(other)]; given {
			return e.failAt(string(field.Name()), Doubled, "cannot be given together with %s: the two are members of oneof %s, which holds one at most",
				other, oneof.Name())
		}
	}
	return true
}

// unknownNames reports the names in args that no field has.
func (e *encoder) unknownNames(desc protoreflect.MessageDescriptor, args map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if desc.Fields().ByName(protoreflect.Name(name)) != nil {
			continue
		}
		if !e.charge(1) {
			return
		}
		e.unknown(desc, name)
	}
}

// unknown reports one name that no field has.
func (e *encoder) unknown(desc protoreflect.MessageDescriptor, name string) {
	switch {
	case e.full():
		e.fail(Unknown, "")
		return
	case e.hidden > 0:
		// Nothing inside a redacted field is shown, not even names.
		e.fail(Unknown, "has a member that %s has not", desc.Name())
		return
	}
	names := protoargs.FieldNames(desc)
	near := nearest.Names(name, names, 1)
	text := "is no parameter: there are none"
	switch field := desc.Fields().ByJSONName(name); {
	case field != nil:
		text = "is no parameter but the JSON name of one: write " + string(field.Name())
	case len(near) > 0:
		text = "is no parameter: did you mean " + near[0] + "?"
	case len(names) > 0:
		text = "is no parameter: there are " + quote.Clip(strings.Join(names, ", "), protoargs.MaxPath)
	}
	e.failAt(protoargs.PlainName(name), Unknown, "%s", text)
}

// failAt is fail for a field of the current message.
func (e *encoder) failAt(name string, kind Kind, format string, args ...any) bool {
	e.push(fieldpath.Step{Field: name})
	e.fail(kind, format, args...)
	e.pop()
	return false
}

// field sets one field of a message.
func (e *encoder) field(field protoreflect.FieldDescriptor, into protoreflect.Message, value any) bool {
	e.push(fieldpath.Step{Field: string(field.Name())})
	redacted := fieldpath.Redacted(field)
	if redacted {
		e.hidden++
	}
	ok := e.set(field, into, value)
	if redacted {
		e.hidden--
	}
	e.pop()
	return ok
}

func (e *encoder) set(field protoreflect.FieldDescriptor, into protoreflect.Message, v any) bool {
	switch {
	case field.IsList():
		return e.list(field, into, v)
	case field.IsMap():
		return e.mapField(field, into, v)
	}
	set, ok := e.value(field, v, into.NewField(field))
	if ok {
		into.Set(field, set)
	}
	return ok
}
