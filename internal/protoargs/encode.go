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
	// MaxDepth is how many values may be around a value: messages
	// in messages, lists and objects in JSON.
	MaxDepth = 64
	// DefaultLimit is how large a request may be on the wire, in bytes, unless
	// [Plan.Limit] says otherwise. It bounds the work of values that hold one
	// another many times over; a gRPC server takes 4 MiB by default.
	DefaultLimit = 64 << 20
)

// maxCounted bounds the problems that are looked for at all.
const maxCounted = 1000

// Encode makes a request of args, whose names are the fields'. Args are neither
// changed nor kept. Its errors are *ArgumentError and have every problem, not
// only the first.
//
// Values are converted exactly or refused:
//
//   - Integers of all Go types fit every integer field that can hold them, and
//     a float or double that holds them exactly. So does a float without
//     fraction below 2^53 (float32: 2^24), because JSON makes floats of all
//     numbers, and a json.Number. A time.Duration is no integer: its unit would
//     be lost.
//   - Floats of both Go types fit a double; a float takes the nearest number, so
//     that 0.1 can be given, unless that is infinite or zero when the given one
//     is not. NaN and the infinities are numbers here.
//   - A string is for a string field and must be valid UTF-8; a bool for bool;
//     a slice or array of bytes for bytes.
//   - An enum takes the exact name of a value, the number of a declared one, or
//     a value of its generated Go type.
//   - A message takes a map with string keys, a struct, a pointer to one (its
//     fields go by their name in the json tag, else in snake_case; nil ones and
//     those that omitempty or omitzero leave out are not given), or a message of
//     the same full name, which is copied as it is.
//   - Repeated fields take slices and arrays, maps take maps, whose keys are of
//     the field's type: no "7" for 7.
//   - google.protobuf.Timestamp takes a time.Time of the years 1 to 9999,
//     Duration a time.Duration, both also a map of their fields; Struct, Value
//     and ListValue take what JSON can say; FieldMask a slice of strings; the
//     wrappers what their value takes; Any a message, or a map with "@type" and
//     the message's fields (or "value" where the message has a Go value of its
//     own, or the type is not known and the value bytes).
//
// Types that are named, such as type UserID int64, and pointers are looked
// through. A nil is refused everywhere, but for a Value, whose null it
// is; a nil slice or map that has a type is an empty one.
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

// explain encodes args once more to find all that is wrong with them: the first time
// stops at once and formats nothing. If the arguments are too large, that is the only
// problem.
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
	// explain says that all problems are wanted, with texts.
	explain  bool
	problems []Problem
	more     int
	// stop says that nothing more is to be looked at.
	stop bool
	path fieldpath.Path
	// hidden is how many of the fields around are redacted.
	hidden int
	depth  int
	// size is at most the bytes that what was read so far has on the wire. It
	// bounds the work when values hold one another many times over.
	size int
	// large says that the request would be too large.
	large    bool
	versions versions
}

// fail notes a problem of the value at hand. It always returns false.
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

// halt reports whether to end after a problem.
func (e *encoder) halt() bool { return !e.explain || e.stop }

// push takes a step down. The path is kept only if errors are wanted, which show it.
func (e *encoder) push(at fieldpath.Step) {
	if e.explain {
		e.path = append(e.path, at)
	}
}

// pop takes the last step back.
func (e *encoder) pop() {
	if e.explain {
		e.path = e.path[:len(e.path)-1]
	}
}

// enter goes into a value that holds others; leave comes back.
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

// charge counts bytes that the request has at least.
func (e *encoder) charge(bytes int) bool {
	e.size += bytes
	if e.size <= e.plan.limit {
		return true
	}
	e.large, e.stop = true, true
	return false
}

const missingText = "is missing: it takes %s"

// message fills a message with the named values.
func (e *encoder) message(m *message, into protoreflect.Message, args map[string]any) bool {
	if !e.enter() {
		return false
	}
	defer e.leave()
	ok := true
	known := 0
	var chosen map[int]*field // by oneof
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

// missing reports a field that must be given and is not.
func (e *encoder) missing(f *field) bool {
	return e.explain && e.failAt(f.name, Missing, missingText, f.wants())
}

// choose notes a field of a oneof that is given; chosen are those before it.
func (e *encoder) choose(f *field, chosen map[int]*field) bool {
	if first := chosen[f.oneof]; first != nil {
		return e.failAt(f.name, Doubled, "cannot be given together with %s: the two are members of oneof %s, which holds one at most",
			first.name, f.desc.ContainingOneof().Name())
	}
	chosen[f.oneof] = f
	return true
}

// unknownNames reports the names that no field has.
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

// unknown reports a name that no field has.
func (e *encoder) unknown(m *message, name string) {
	shown := plainName(name)
	switch {
	case e.full():
		e.fail(Unknown, "")
		return
	case e.hidden > 0:
		// Nothing inside a redacted field is shown, names included.
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

// failAt is fail for a field of the message at hand.
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
