package protoargs

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/nearest"
	"github.com/onecall-dev/onecall/internal/quote"
)

const (
	// MaxDepth is how deep a value may be nested: messages in messages, and lists and
	// objects in JSON.
	MaxDepth = 64
	// DefaultLimit is the largest size of a request on the wire, in bytes, if
	// [Plan.Limit] does not set another. It bounds the work for values that contain one
	// another many times. A gRPC server accepts 4 MiB by default.
	DefaultLimit = 64 << 20
)

// maxCounted bounds the problems that are only counted. Then the search for problems ends.
const maxCounted = 1000

// Encode converts args to a request. The names in args are those of the fields. Encode
// neither changes nor keeps args. Its errors are of type *ArgumentError and contain every
// problem, not only the first.
//
// Each value is converted exactly or refused:
//
//   - An integer of any Go type is converted to any integer field that can hold it, and to
//     a float or double that holds it exactly. The same is true for a json.Number, and for
//     a float without fraction below 2^53 (float32: 2^24), because JSON decodes all numbers
//     to floats. A time.Duration is not an integer: its unit would be lost.
//   - A float of either Go type is converted to a double. A float field receives the
//     nearest number, so that 0.1 is accepted. A finite number that would become infinite
//     is refused, and so is one that would become zero and is not. NaN and the infinities
//     are accepted.
//   - A string field requires a string of valid UTF-8, a bool field a bool, and a bytes
//     field a slice or array of bytes.
//   - An enum field accepts the exact name of a value, the number of a declared value, or a
//     value of its generated Go type.
//   - A message field accepts a map with string keys, a struct, a pointer to a struct, or a
//     message of the same full name, which is copied unchanged. The name of a struct field
//     is that in its json tag, else its Go name in snake_case. Nil struct fields, and those
//     that omitempty or omitzero omit, are not set.
//   - A repeated field accepts a slice or an array. A map field accepts a map whose keys
//     have the type of the field's keys: "7" is not accepted for 7.
//   - google.protobuf.Timestamp accepts a time.Time of the years 1 to 9999, and Duration a
//     time.Duration. Both also accept a map of their fields. Struct, Value and ListValue
//     accept values that JSON can represent, FieldMask a slice of strings, and a wrapper
//     the values of its value field. Any accepts a message, or a map with "@type" and the
//     message's fields. The map has "value" instead of the fields if the message has a Go
//     value of its own, or if the type is not known: then "value" is the message's bytes.
//
// Values of named types, such as type UserID int64, and pointers are accepted like the
// values themselves. Nil is refused, except for a Value, where it is null. A nil slice or
// map of a type is an empty one.
func (p *Plan) Encode(args map[string]any) (proto.Message, error) {
	e := encoder{plan: p}
	request := p.new()
	if !e.message(p.request, request, args) {
		return nil, p.explain(args, e.large)
	}
	if size := proto.Size(request.Interface()); size > p.limit {
		return nil, p.tooLarge()
	}
	return request.Interface(), nil
}

// explain encodes args again to find all problems. The first run stops at the first
// problem and formats no text. If the arguments are too large, that is the only problem.
func (p *Plan) explain(args map[string]any, large bool) error {
	e := encoder{plan: p, explain: true, large: large}
	if !large {
		e.message(p.request, p.new(), args)
	}
	if e.large {
		return p.tooLarge()
	}
	if len(e.problems) == 0 {
		// Another goroutine changed the arguments in the meantime.
		e.fail(WrongType, "was changed by another goroutine while it was read")
	}
	return &ArgumentError{RPC: p.rpc, Problems: e.problems, More: e.more, Usage: p.Usage()}
}

func (p *Plan) tooLarge() error {
	const unit = 1 << 20
	text := fmt.Sprintf("makes a request of more than %.4g MiB, the most that the bus sends: raise it with grpc.MaxCallSendMsgSize in DialOptions, "+
		"and what the service takes with grpc.MaxRecvMsgSize in ServerOptions, or send less", float64(p.limit)/unit)
	return &ArgumentError{RPC: p.rpc, Problems: []Problem{{Text: text, Kind: TooLarge}}}
}

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
	versions versions
}

// fail records a problem of the current value. It always returns false.
func (e *encoder) fail(kind Kind, format string, args ...any) bool {
	switch {
	case !e.explain:
	case len(e.problems) < maxProblems:
		e.problems = append(e.problems, Problem{Path: e.path.Text(maxPath), Text: fmt.Sprintf(format, args...), Kind: kind})
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
	if e.depth > MaxDepth {
		e.fail(TooDeep, "lies within more than %d other values: does a value hold itself?", MaxDepth)
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
func (e *encoder) message(m *message, into protoreflect.Message, args map[string]any) bool {
	if !e.enter() {
		return false
	}
	defer e.leave()
	ok := true
	known := 0
	var chosen map[int]*field // key: index of the oneof
	for _, f := range m.fields {
		value, given := args[f.name]
		switch {
		case given:
			known++
			if f.oneof >= 0 {
				if chosen == nil {
					chosen = make(map[int]*field, 1)
				}
				ok = e.choose(f, chosen) && ok
			}
			ok = e.field(f, into, value) && ok
		case f.required:
			ok = e.missing(f)
		}
		if !ok && e.halt() {
			return false
		}
	}
	if known == len(args) {
		return ok
	}
	if e.explain {
		e.unknownNames(m, args)
	}
	return false
}

// missing reports a required field that is not set.
func (e *encoder) missing(f *field) bool {
	return e.explain && e.failAt(f.name, Missing, missingText, f.wants())
}

// choose records that a field of a oneof is set. chosen contains the earlier ones.
func (e *encoder) choose(f *field, chosen map[int]*field) bool {
	if first := chosen[f.oneof]; first != nil {
		return e.failAt(f.name, Doubled, "cannot be given together with %s: the two are members of oneof %s, which holds one at most",
			first.name, f.desc.ContainingOneof().Name())
	}
	chosen[f.oneof] = f
	return true
}

// unknownNames reports the names in args that no field has.
func (e *encoder) unknownNames(m *message, args map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if m.byName[name] != nil {
			continue
		}
		if !e.charge(1) {
			return
		}
		e.unknown(m, name)
	}
}

// unknown reports one name that no field has.
func (e *encoder) unknown(m *message, name string) {
	shown := plainName(name)
	switch {
	case e.full():
		e.fail(Unknown, "")
		return
	case e.hidden > 0:
		// Nothing inside a redacted field is shown, not even names.
		e.fail(Unknown, "has a member that %s has not", m.desc.Name())
		return
	case len(m.fields) == 0:
		e.failAt(shown, Unknown, "is no parameter: there are none")
		return
	}
	if f := m.byJSONName(name); f != nil {
		e.failAt(shown, Unknown, "is no parameter but the JSON name of one: write %s", f.name)
		return
	}
	if near := nearest.Names(name, m.names(), 1); len(near) > 0 {
		e.failAt(shown, Unknown, "is no parameter: did you mean %s?", near[0])
		return
	}
	e.failAt(shown, Unknown, "is no parameter: there are %s", quote.Clip(strings.Join(m.names(), ", "), maxPath))
}

// failAt is fail for a field of the current message.
func (e *encoder) failAt(name string, kind Kind, format string, args ...any) bool {
	e.push(fieldpath.Step{Field: name})
	e.fail(kind, format, args...)
	e.pop()
	return false
}

// field sets one field of a message.
func (e *encoder) field(f *field, into protoreflect.Message, value any) bool {
	e.push(fieldpath.Step{Field: f.name})
	if f.redacted {
		e.hidden++
	}
	ok := e.set(f, into, value)
	if f.redacted {
		e.hidden--
	}
	e.pop()
	return ok
}

func (e *encoder) set(f *field, into protoreflect.Message, value any) bool {
	switch f.shape {
	case list:
		return e.list(f, into, value)
	case mapped:
		return e.mapField(f, into, value)
	case single:
	}
	var slot protoreflect.Value
	if f.value.message != nil {
		slot = into.NewField(f.desc)
	}
	set, ok := e.value(f.value, value, slot)
	if ok {
		into.Set(f.desc, set)
	}
	return ok
}
