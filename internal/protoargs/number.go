package protoargs

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// The reasons why a value is not a number of some type.
var (
	// ErrType says that the value is not a number.
	ErrType = errors.New("not a number")
	// ErrRange says that the number is too large or too small.
	ErrRange = errors.New("out of range")
	// ErrInexact says that the type can hold the number only rounded.
	ErrInexact = errors.New("inexact")
)

// Number converts a value of [Basic] to an integer or a float type. An integer is converted
// exactly or refused. A number with a fraction becomes the nearest float. The error is
// ErrType, ErrRange or ErrInexact.
func Number(v any, goType reflect.Type) (reflect.Value, error) {
	if kind := goType.Kind(); kind == reflect.Float32 || kind == reflect.Float64 {
		f, err := floatOf(v, goType.Bits())
		return reflect.ValueOf(f).Convert(goType), err
	}
	n, err := integerOf(v)
	if err != nil {
		return reflect.Value{}, err
	}
	set, ok := Fit(n, goType)
	if !ok {
		return reflect.Value{}, ErrRange
	}
	return set, nil
}

// Fit returns a number as a value of an integer type, and whether the type can hold it.
func Fit(n *big.Int, goType reflect.Type) (reflect.Value, bool) {
	if kind := goType.Kind(); kind >= reflect.Int && kind <= reflect.Int64 {
		return reflect.ValueOf(n.Int64()).Convert(goType), n.IsInt64() && !goType.OverflowInt(n.Int64())
	}
	return reflect.ValueOf(n.Uint64()).Convert(goType), n.IsUint64() && !goType.OverflowUint(n.Uint64())
}

// Rational returns an integer or a float exactly. It returns nil if v is neither, or not
// finite.
func Rational(v any) *big.Rat {
	switch v := Basic(v).(type) {
	case int64:
		return new(big.Rat).SetInt64(v)
	case uint64:
		return new(big.Rat).SetUint64(v)
	case float32:
		return new(big.Rat).SetFloat64(float64(v))
	case float64:
		return new(big.Rat).SetFloat64(v)
	default:
		return nil
	}
}

// The bits of mantissa. A float can hold all integers with at most so many bits.
const (
	mantissa64 = 53
	mantissa32 = 24
)

// integerOf reads a basic value as an integer. It refuses large floats, because each may be
// the nearest float of several integers.
func integerOf(v any) (*big.Int, error) {
	read, most := Rational(v), math.MaxInt
	switch v := v.(type) {
	case int64, uint64:
	case float32:
		most = mantissa32
	case float64:
		most = mantissa64
	case json.Number:
		var err error
		if read, err = parse(string(v)); err != nil {
			return nil, err
		}
	default:
		return nil, ErrType
	}
	if read == nil || !read.IsInt() || read.Num().BitLen() > most {
		return nil, ErrInexact
	}
	return read.Num(), nil
}

// jsonNumber matches a number of RFC 8259: integer, fraction, exponent.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$`)

// parse reads a JSON number exactly. 1e3 and 10.0 are integers.
func parse(text string) (*big.Rat, error) {
	const (
		longest = 2048 // bytes of a number; a double needs at most about 1,100 digits
		digits  = 4    // of an exponent; the work grows with the exponent
	)
	if len(text) > longest || !jsonNumber.MatchString(text) {
		return nil, ErrType
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	switch {
	case !strings.ContainsAny(mantissa, "123456789"):
		return new(big.Rat), nil
	case len(strings.TrimLeft(exponent, "+-0")) > digits:
		return nil, ErrRange
	}
	read, _ := new(big.Rat).SetString(text)
	return read, nil
}

// floatOf reads a basic value as a float of width bits. An integer must be equal to the
// float. A float becomes the nearest one.
func floatOf(v any, width int) (float64, error) {
	switch v := v.(type) {
	case float32:
		return float64(v), nil
	case float64:
		near := v
		if width == 32 {
			near = float64(float32(v))
		}
		if math.IsInf(near, 0) != math.IsInf(v, 0) || (near == 0) != (v == 0) {
			return 0, ErrRange
		}
		return near, nil
	case int64, uint64:
		near, exact := Rational(v).Float64()
		if width == 32 {
			_, exact = Rational(v).Float32()
		}
		if !exact {
			return 0, ErrInexact
		}
		return near, nil
	case json.Number:
		return floatOfNumber(string(v), width)
	case string:
		if f, ok := notFinite[v]; ok {
			return f, nil
		}
	}
	return 0, ErrType
}

// floatOfNumber reads a JSON number. A number with a fraction becomes the nearest float. A
// number without one must be equal to that float, or to the shortest text of that float.
func floatOfNumber(text string, width int) (float64, error) {
	given, err := parse(text)
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(text, width)
	if err != nil || f == 0 && given.Sign() != 0 {
		return 0, ErrRange
	}
	written, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'f', -1, width))
	if given.IsInt() && given.Cmp(Rational(f)) != 0 && given.Cmp(written) != 0 {
		return 0, ErrInexact
	}
	return f, nil
}

// notFinite are the texts of floats that are not finite in protobuf's JSON. encoding/json
// cannot write such floats.
var notFinite = map[string]float64{"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)}

// NotFiniteText returns the text of a float that is not finite in protobuf's JSON, "" if
// it is finite.
func NotFiniteText(f float64) string {
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
