package protoargs

import (
	"encoding/json"
	"math"
	"math/big"
	"math/bits"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// integer is a number without fraction: from -2^63 to 2^64-1.
type integer struct {
	negative bool
	abs      uint64
}

// signed returns the integer if it fits into width bits.
func (n integer) signed(width int) (int64, bool) {
	limit := uint64(1) << (width - 1)
	if n.negative {
		return -int64(n.abs), n.abs <= limit //nolint:gosec // -2^63 is its own negative
	}
	return int64(n.abs), n.abs < limit //nolint:gosec // checked in the same line
}

// unsigned returns the integer if it fits into width bits.
func (n integer) unsigned(width int) (uint64, bool) {
	return n.abs, (!n.negative || n.abs == 0) && bits.Len64(n.abs) <= width
}

// exactly reports whether a float with so many bits of mantissa can hold the integer.
func (n integer) exactly(mantissa int) bool {
	return n.abs == 0 || bits.Len64(n.abs)-bits.TrailingZeros64(n.abs) <= mantissa
}

// float returns the double that is nearest to the integer.
func (n integer) float() float64 {
	if n.negative {
		return -float64(n.abs)
	}
	return float64(n.abs)
}

// The bits of mantissa. A float can hold all integers with at most so many bits.
const (
	mantissa64 = 53
	mantissa32 = 24
)

// integerOf reads a basic value as an integer. problem says why it is not one, else "".
func integerOf(v any) (n integer, problem Kind) {
	switch v := v.(type) {
	case int64:
		return integer{v < 0, magnitude(v)}, ""
	case uint64:
		return integer{false, v}, ""
	case float64:
		return integerOfFloat(v, mantissa64)
	case float32:
		return integerOfFloat(float64(v), mantissa32)
	case json.Number:
		return integerOfNumber(string(v))
	default:
		return integer{}, WrongType
	}
}

func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v) //nolint:gosec // two's complement: right for -2^63 too
	}
	return uint64(v)
}

// integerOfFloat converts a float without fraction. From 2^mantissa on, it refuses all
// floats, because each may be the nearest float of several integers.
func integerOfFloat(v float64, mantissa int) (integer, Kind) {
	switch {
	case v != math.Trunc(v) || math.IsInf(v, 0): // NaN is unlike itself
		return integer{}, Inexact
	case math.Abs(v) >= float64(uint64(1)<<mantissa):
		return integer{}, Inexact
	default:
		return integer{v < 0, uint64(math.Abs(v))}, ""
	}
}

// jsonNumber matches a number of RFC 8259: integer, fraction, exponent.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$`)

// maxNumberText bounds the text of a number. A double needs at most about 1,100 digits.
const maxNumberText = 2048

func isJSONNumber(text string) bool {
	return len(text) <= maxNumberText && jsonNumber.MatchString(text)
}

// integerOfNumber reads a JSON number. 1e3 and 10.0 are integers.
func integerOfNumber(text string) (integer, Kind) {
	if !isJSONNumber(text) {
		return integer{}, WrongType
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	if !strings.ContainsAny(mantissa, "123456789") {
		return integer{}, ""
	}
	const digits = 4 // of an exponent; the work grows with the exponent
	if len(strings.TrimLeft(exponent, "+-0")) > digits {
		return integer{}, OutOfRange
	}
	number, ok := new(big.Rat).SetString(text)
	switch {
	case !ok:
		return integer{}, WrongType
	case !number.IsInt():
		return integer{}, Inexact
	}
	abs := new(big.Int).Abs(number.Num())
	if !abs.IsUint64() {
		return integer{}, OutOfRange
	}
	return integer{number.Sign() < 0, abs.Uint64()}, ""
}

// floatOf reads a basic value as a float of width bits.
func floatOf(v any, width int) (f float64, problem Kind) {
	switch v := v.(type) {
	case int64, uint64:
		n, _ := integerOf(v)
		mantissa := mantissa64
		if width == 32 {
			mantissa = mantissa32
		}
		if !n.exactly(mantissa) {
			return 0, Inexact
		}
		return n.float(), ""
	case float64:
		return rounded(v, width)
	case float32:
		return float64(v), ""
	case json.Number:
		return floatOfNumber(string(v), width)
	case string:
		if f, ok := notFinite(v); ok {
			return f, ""
		}
		return 0, WrongType
	default:
		return 0, WrongType
	}
}

// notFiniteText returns the text of a float that is not finite in protobuf's JSON, "" if
// it is finite. encoding/json cannot write such floats.
func notFiniteText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	default:
		return ""
	}
}

// notFinite reads a text of notFiniteText.
func notFinite(text string) (f float64, ok bool) {
	switch text {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	default:
		return 0, false
	}
}

// rounded returns the nearest float of width bits. It refuses v if the result would become
// infinite or zero.
func rounded(v float64, width int) (float64, Kind) {
	if width == 64 {
		return v, ""
	}
	near := float64(float32(v))
	if math.IsInf(near, 0) != math.IsInf(v, 0) || (near == 0) != (v == 0) {
		return 0, OutOfRange
	}
	return near, ""
}

// floatOfNumber reads a JSON number. A number with a fraction becomes the nearest float. A
// number without one must be equal to that float, or to the shortest text of that float.
func floatOfNumber(text string, width int) (float64, Kind) {
	if !isJSONNumber(text) {
		return 0, WrongType
	}
	f, err := strconv.ParseFloat(text, width)
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	if err != nil || f == 0 && strings.ContainsAny(mantissa, "123456789") {
		return 0, OutOfRange
	}
	least := float64(uint64(1) << mantissa64)
	if width == 32 {
		least = float64(uint64(1) << mantissa32)
	}
	if math.Abs(f) < least { // floats below least hold every integer
		return f, ""
	}
	given, ok := new(big.Rat).SetString(text) // the exponent is small, because f is finite and not zero
	if !ok {
		return 0, WrongType
	}
	written, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'f', -1, width))
	if given.IsInt() && given.Cmp(new(big.Rat).SetFloat64(f)) != 0 && given.Cmp(written) != 0 {
		return 0, Inexact
	}
	return f, ""
}

// integer converts a value to an integer kind.
func (e *encoder) integer(t *valueType, v any) (protoreflect.Value, bool) {
	n, problem := integerOf(basic(v))
	if problem != "" {
		return protoreflect.Value{}, e.badNumber(t, v, problem)
	}
	switch t.kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		if i, ok := n.signed(32); ok {
			return protoreflect.ValueOfInt32(int32(i)), true //nolint:gosec // it fits
		}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		if i, ok := n.signed(64); ok {
			return protoreflect.ValueOfInt64(i), true
		}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		if u, ok := n.unsigned(32); ok {
			return protoreflect.ValueOfUint32(uint32(u)), true //nolint:gosec // it fits
		}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		if u, ok := n.unsigned(64); ok {
			return protoreflect.ValueOfUint64(u), true
		}
	default: // the other kinds are not integers
	}
	return protoreflect.Value{}, e.badNumber(t, v, OutOfRange)
}

// float converts a value to a float or a double.
func (e *encoder) float(t *valueType, v any) (protoreflect.Value, bool) {
	width := 64
	if t.kind == protoreflect.FloatKind {
		width = 32
	}
	f, problem := floatOf(basic(v), width)
	switch {
	case problem != "":
		return protoreflect.Value{}, e.badNumber(t, v, problem)
	case width == 32:
		return protoreflect.ValueOfFloat32(float32(f)), true
	default:
		return protoreflect.ValueOfFloat64(f), true
	}
}

func (e *encoder) badNumber(t *valueType, v any, problem Kind) bool {
	switch problem {
	case OutOfRange:
		return e.fail(OutOfRange, "is %s, and the number%s does not fit", t.text(), e.echo(" ", basic(v)))
	case Inexact:
		return e.fail(Inexact, "is %s, which does not hold the number%s exactly: give one that it does, integers as a Go integer or json.Number",
			t.text(), e.echo(" ", basic(v)))
	default:
		return e.wrongType(t, v)
	}
}
