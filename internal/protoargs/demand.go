package protoargs

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/quote"
)

// maxDemand bounds the bytes of one demand of a rule in the text of a call.
const maxDemand = 60

// rulesOf returns the rules of a field, nil if no rule applies to it.
func rulesOf(desc protoreflect.FieldDescriptor) *validate.FieldRules {
	rules, ok := proto.GetExtension(desc.Options(), validate.E_Field).(*validate.FieldRules)
	if !ok || rules.GetIgnore() == validate.Ignore_IGNORE_ALWAYS {
		return nil
	}
	return rules
}

// demanded reports whether a call that omits the field breaks the rules.
func demanded(desc protoreflect.FieldDescriptor) bool {
	rules := rulesOf(desc)
	if rules.GetRequired() {
		return true
	}
	if rules.GetIgnore() == validate.Ignore_IGNORE_IF_ZERO_VALUE {
		return false
	}
	return rules.GetRepeated().GetMinItems() > 0 || rules.GetMap().GetMinPairs() > 0
}

// oneofDemanded reports whether a call must set a member of a oneof.
func oneofDemanded(desc protoreflect.OneofDescriptor) bool {
	rules, ok := proto.GetExtension(desc.Options(), validate.E_Oneof).(*validate.OneofRules)
	return ok && rules.GetRequired()
}

// messageDemands returns the demands of the rules of a whole message as text.
func messageDemands(desc protoreflect.MessageDescriptor) []string {
	rules, ok := proto.GetExtension(desc.Options(), validate.E_Message).(*validate.MessageRules)
	if !ok {
		return nil
	}
	demands := expressions(rules.GetCel(), rules.GetCelExpression())
	for _, oneof := range rules.GetOneof() {
		if oneof.GetRequired() {
			demands = append(demands, quote.Clip("one of "+strings.Join(oneof.GetFields(), ", "), maxDemand))
		}
	}
	return demands
}

// expressions returns the demands of rules in CEL: the message of a rule, or its
// expression if it has no message.
func expressions(rules []*validate.Rule, plain []string) []string {
	var demands []string
	for _, rule := range rules {
		text := rule.GetMessage()
		if text == "" {
			text = rule.GetExpression()
		}
		demands = append(demands, inWords(text))
	}
	for _, text := range plain {
		demands = append(demands, inWords(text))
	}
	return demands
}

// inWords returns text from a .proto file, cut and on one line. The result can end neither
// a comment nor a string.
func inWords(text string) string {
	text = strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "*/", "* /")
	quoted := quote.Quoted(text, maxDemand)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `'`)
}

// described returns a value followed by a comment with its demands.
func described(value string, demands []string) string {
	if len(demands) == 0 {
		return value
	}
	return value + " /* " + strings.Join(demands, ", ") + " */"
}

// amount returns a demand for a number of units, such as "1 to 5 items".
func amount(least, most *uint64, unit string) string {
	switch {
	case least != nil && most != nil && *least == *most:
		return fmt.Sprintf("%d %s", *least, unit)
	case least != nil && most != nil:
		return fmt.Sprintf("%d to %d %s", *least, *most, unit)
	case least != nil:
		return fmt.Sprintf("at least %d %s", *least, unit)
	default:
		return fmt.Sprintf("at most %d %s", *most, unit)
	}
}

// textExample returns a string that the rules accept, or a string that describes what they
// demand.
func textExample(rules *validate.FieldRules) string {
	text := rules.GetString()
	demands := expressions(rules.GetCel(), rules.GetCelExpression())
	if text != nil {
		if text.Const != nil {
			return quote.Quoted(text.GetConst(), maxDemand)
		}
		if known, ok := formats[formatOf(text)]; ok && len(demands) == 0 {
			return quote.Quoted(known, maxDemand)
		}
		if in := text.GetIn(); len(in) > 0 && len(demands) == 0 {
			return quote.Quoted(in[0], maxDemand)
		}
		demands = append(demands, textDemands(text)...)
	}
	if len(demands) == 0 {
		return `"…"`
	}
	return `"(` + strings.Join(demands, ", ") + `)"`
}

// textDemands returns the demands of string rules that "…" does not meet.
func textDemands(text *validate.StringRules) []string {
	var demands []string
	least, most := text.MinLen, text.MaxLen
	if text.Len != nil {
		least, most = text.Len, text.Len
	}
	if least != nil && *least > 1 || most != nil && *most < 1 {
		demands = append(demands, amount(least, most, "characters"))
	}
	least, most = text.MinBytes, text.MaxBytes
	if text.LenBytes != nil {
		least, most = text.LenBytes, text.LenBytes
	}
	if ellipsis := uint64(len("…")); least != nil && *least > ellipsis || most != nil && *most < ellipsis {
		demands = append(demands, amount(least, most, "bytes"))
	}
	for _, demand := range []struct{ words, value string }{
		{"matches", text.GetPattern()},
		{"begins with", text.GetPrefix()},
		{"ends with", text.GetSuffix()},
		{"contains", text.GetContains()},
		{"is a", strings.ReplaceAll(formatOf(text), "_", " ")},
	} {
		if demand.value != "" {
			demands = append(demands, demand.words+" "+inWords(demand.value))
		}
	}
	return demands
}

// formats has a valid value of each common format.
var formats = map[string]string{ //nolint:gochecknoglobals // a constant
	"email": "adam@example.com", "hostname": "example.com", "address": "example.com", "host_and_port": "example.com:443",
	"ip": "192.0.2.1", "ipv4": "192.0.2.1", "ipv6": "2001:db8::1", "uri": "https://example.com/", "uri_ref": "/index",
	"uuid": "123e4567-e89b-42d3-a456-426614174000", "tuuid": "123e4567e89b42d3a456426614174000",
}

// formatOf returns the name of the format that a string must have, "" if there is none.
func formatOf(text *validate.StringRules) string {
	set := text.ProtoReflect()
	oneof := set.Descriptor().Oneofs().ByName("well_known")
	if oneof == nil {
		return ""
	}
	which := set.WhichOneof(oneof)
	if which == nil || which.Kind() == protoreflect.BoolKind && !set.Get(which).Bool() {
		return ""
	}
	return string(which.Name())
}

// typeRules returns the rules of a field's type, an invalid message if it has none.
func typeRules(rules *validate.FieldRules) protoreflect.Message {
	set := rules.ProtoReflect()
	if which := set.WhichOneof(set.Descriptor().Oneofs().ByName("type")); which != nil {
		return set.Get(which).Message()
	}
	return (*validate.FieldRules)(nil).ProtoReflect()
}

// numberExample returns a number that the rules accept. If it finds none, it returns zero
// with a comment that describes the demands.
func numberExample(rules *validate.FieldRules, kind protoreflect.Kind) string {
	whole := kind != protoreflect.FloatKind && kind != protoreflect.DoubleKind
	demands := expressions(rules.GetCel(), rules.GetCelExpression())
	bounds := boundsOf(typeRules(rules))
	candidates := append([]*big.Rat{new(big.Rat)}, bounds.candidates()...)
	for _, candidate := range candidates {
		if whole && (!candidate.IsInt() || !fits(candidate.Num(), kind)) || rules.GetRequired() && candidate.Sign() == 0 || !bounds.accept(candidate) {
			continue
		}
		return described(numberText(candidate, whole), demands)
	}
	return described(numberText(new(big.Rat), whole), append(demands, bounds.text()...))
}

func numberText(number *big.Rat, whole bool) string {
	if whole {
		return number.Num().String()
	}
	float, _ := number.Float64()
	text := strconv.FormatFloat(float, 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

// fits reports whether an integer kind can hold the number.
func fits(number *big.Int, kind protoreflect.Kind) bool {
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return number.IsInt64() && number.Int64() >= math.MinInt32 && number.Int64() <= math.MaxInt32
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return number.IsUint64() && number.Uint64() <= math.MaxUint32
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return number.IsUint64()
	default:
		return number.IsInt64()
	}
}

// bounds are the rules of a number.
type bounds struct {
	above, from, below, to, exactly *big.Rat // nil if there is no such rule
	in, notIn                       []*big.Rat
}

func boundsOf(rules protoreflect.Message) bounds {
	var out bounds
	if !rules.IsValid() {
		return out
	}
	rules.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch field.Name() {
		case "gt":
			out.above = rational(value)
		case "gte":
			out.from = rational(value)
		case "lt":
			out.below = rational(value)
		case "lte":
			out.to = rational(value)
		case "const":
			out.exactly = rational(value)
		case "in", "not_in":
			for i := range value.List().Len() {
				if number := rational(value.List().Get(i)); number == nil {
					continue
				} else if field.Name() == "in" {
					out.in = append(out.in, number)
				} else {
					out.notIn = append(out.notIn, number)
				}
			}
		}
		return true
	})
	return out
}

// rational returns the number of a rule, nil if it is not finite or not a number.
func rational(value protoreflect.Value) *big.Rat {
	switch number := value.Interface().(type) {
	case int32:
		return new(big.Rat).SetInt64(int64(number))
	case int64:
		return new(big.Rat).SetInt64(number)
	case uint32:
		return new(big.Rat).SetInt64(int64(number))
	case uint64:
		return new(big.Rat).SetInt(new(big.Int).SetUint64(number))
	case float32:
		return new(big.Rat).SetFloat64(float64(number))
	case float64:
		return new(big.Rat).SetFloat64(number)
	default:
		return nil
	}
}

// candidates returns numbers near the bounds.
func (b bounds) candidates() []*big.Rat {
	one := big.NewRat(1, 1)
	out := []*big.Rat{one}
	for _, edge := range append([]*big.Rat{b.exactly, b.from, b.above, b.to, b.below}, b.in...) {
		if edge != nil {
			out = append(out, edge, new(big.Rat).Add(edge, one), new(big.Rat).Sub(edge, one))
		}
	}
	if low, high := b.edges(); low != nil && high != nil {
		middle := new(big.Rat).Add(low, high)
		out = append(out, middle.Quo(middle, big.NewRat(2, 1)))
	}
	for _, not := range b.notIn[:min(len(b.notIn), 100)] {
		out = append(out, new(big.Rat).Add(not, one))
	}
	return out
}

// edges returns the lower and the upper bound, nil if there is none.
func (b bounds) edges() (low, high *big.Rat) {
	return cmp.Or(b.above, b.from), cmp.Or(b.below, b.to)
}

// accept reports whether the rules accept a number.
func (b bounds) accept(number *big.Rat) bool {
	same := func(other *big.Rat) bool { return other.Cmp(number) == 0 }
	if b.exactly != nil && !same(b.exactly) || len(b.in) > 0 && !slices.ContainsFunc(b.in, same) || slices.ContainsFunc(b.notIn, same) {
		return false
	}
	return b.within(number)
}

// within reports whether a number is in the range of the rules.
func (b bounds) within(number *big.Rat) bool {
	aboveLow := (b.above == nil || number.Cmp(b.above) > 0) && (b.from == nil || number.Cmp(b.from) >= 0)
	belowHigh := (b.below == nil || number.Cmp(b.below) < 0) && (b.to == nil || number.Cmp(b.to) <= 0)
	if low, high := b.edges(); low != nil && high != nil && low.Cmp(high) > 0 { // protovalidate accepts numbers outside
		return aboveLow || belowHigh
	}
	return aboveLow && belowHigh
}

func (b bounds) text() []string {
	var out []string
	for _, bound := range []struct {
		words string
		edge  *big.Rat
	}{{"more than", b.above}, {"at least", b.from}, {"less than", b.below}, {"at most", b.to}, {"exactly", b.exactly}} {
		if bound.edge != nil {
			out = append(out, bound.words+" "+bound.edge.RatString())
		}
	}
	if len(out) == 0 {
		out = append(out, "see its rules")
	}
	return out
}

// enumExample returns the name of a value that the rules accept.
func enumExample(rules *validate.FieldRules, enum protoreflect.EnumDescriptor) string {
	demands := expressions(rules.GetCel(), rules.GetCelExpression())
	bounds := boundsOf(typeRules(rules))
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		number := new(big.Rat).SetInt64(int64(value.Number()))
		if value.Name() == protoreflect.Name(anyName(enum)) && bounds.accept(number) {
			return described(`"`+anyName(enum)+`"`, demands)
		}
	}
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		if bounds.accept(new(big.Rat).SetInt64(int64(value.Number()))) && (value.Number() != 0 || !rules.GetRequired()) {
			return described(`"`+quote.Clip(string(value.Name()), maxNameEcho)+`"`, demands)
		}
	}
	return described(`"`+anyName(enum)+`"`, append(demands, "see its rules"))
}

// otherDemands returns the demands of rules for values that have no other example.
func otherDemands(rules *validate.FieldRules) []string {
	demands := expressions(rules.GetCel(), rules.GetCelExpression())
	set := typeRules(rules)
	if !set.IsValid() {
		return demands
	}
	fields := set.Descriptor().Fields()
	for i := range fields.Len() {
		if field := fields.Get(i); set.Has(field) && field.Name() != "example" {
			demands = append(demands, otherDemand(field, set.Get(field)))
		}
	}
	return demands
}

func otherDemand(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	if field.Message() != nil && !field.IsList() && !field.IsMap() {
		return inWords(string(field.Name()) + " " + fmt.Sprint(value.Message().Interface()))
	}
	return inWords(string(field.Name()) + " " + fmt.Sprint(value.Interface()))
}
