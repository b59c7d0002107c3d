package encode

import (
	"cmp"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/onecall-dev/onecall/internal/protoargs"
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
	demands := expressions(rules)
	for _, oneof := range rules.GetOneof() {
		if oneof.GetRequired() {
			demands = append(demands, quote.Clip("one of "+strings.Join(oneof.GetFields(), ", "), maxDemand))
		}
	}
	return demands
}

// expressions returns the demands of rules in CEL: the message of a rule, or its
// expression if it has no message.
func expressions(rules interface {
	GetCel() []*validate.Rule
	GetCelExpression() []string
},
) []string {
	var demands []string
	for _, rule := range rules.GetCel() {
		demands = append(demands, inWords(cmp.Or(rule.GetMessage(), rule.GetExpression())))
	}
	for _, text := range rules.GetCelExpression() {
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
	demands := expressions(rules)
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
func numberExample(rules *validate.FieldRules, field protoreflect.FieldDescriptor) string {
	whole := field.Kind() != protoreflect.FloatKind && field.Kind() != protoreflect.DoubleKind
	fits := func(number *big.Rat) bool {
		if !number.IsInt() {
			return false
		}
		_, ok := protoargs.Fit(number.Num(), goType(field))
		return ok
	}
	demands := expressions(rules)
	bounds := boundsOf(typeRules(rules))
	for _, candidate := range append([]*big.Rat{new(big.Rat)}, bounds.candidates()...) {
		if whole && !fits(candidate) || rules.GetRequired() && candidate.Sign() == 0 || !bounds.accept(candidate) {
			continue
		}
		return described(numberText(candidate, whole), demands)
	}
	return described(numberText(new(big.Rat), whole), append(demands, bounds.text()...))
}

// goType returns the Go type of a scalar field, or of the elements of its list.
func goType(field protoreflect.FieldDescriptor) reflect.Type {
	zero := field.Default()
	if field.IsList() {
		zero = dynamicpb.NewMessage(field.ContainingMessage()).NewField(field).List().NewElement()
	}
	return reflect.TypeOf(zero.Interface())
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

// bounds are the numbers in the rules of a number, by the name of the rule.
type bounds map[protoreflect.Name][]*big.Rat

func boundsOf(rules protoreflect.Message) bounds {
	out := make(bounds)
	add := func(rule protoreflect.Name, value protoreflect.Value) {
		if number := protoargs.Rational(value.Interface()); number != nil {
			out[rule] = append(out[rule], number)
		}
	}
	rules.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if !field.IsList() {
			add(field.Name(), value)
			return true
		}
		for i := range value.List().Len() {
			add(field.Name(), value.List().Get(i))
		}
		return true
	})
	return out
}

// candidates returns numbers near the bounds.
func (b bounds) candidates() []*big.Rat {
	one := big.NewRat(1, 1)
	out := []*big.Rat{one}
	for _, rule := range []protoreflect.Name{"const", "gte", "gt", "lte", "lt", "in"} {
		for _, edge := range b[rule] {
			out = append(out, edge, new(big.Rat).Add(edge, one), new(big.Rat).Sub(edge, one))
		}
	}
	if low, high := b.edges(); low != nil && high != nil {
		middle := new(big.Rat).Add(low, high)
		out = append(out, middle.Quo(middle, big.NewRat(2, 1)))
	}
	for _, not := range b["not_in"][:min(len(b["not_in"]), 100)] {
		out = append(out, new(big.Rat).Add(not, one))
	}
	return out
}

// edges returns the lower and the upper bound, nil if there is none.
func (b bounds) edges() (low, high *big.Rat) {
	first := func(rules ...protoreflect.Name) *big.Rat {
		for _, rule := range rules {
			if len(b[rule]) > 0 {
				return b[rule][0]
			}
		}
		return nil
	}
	return first("gt", "gte"), first("lt", "lte")
}

// accept reports whether the rules accept a number.
func (b bounds) accept(number *big.Rat) bool {
	has := func(rule protoreflect.Name) bool {
		return slices.ContainsFunc(b[rule], func(other *big.Rat) bool { return other.Cmp(number) == 0 })
	}
	if b["const"] != nil && !has("const") || b["in"] != nil && !has("in") || has("not_in") {
		return false
	}
	low, high := b.edges()
	aboveLow := low == nil || number.Cmp(low) > 0 || has("gte")
	belowHigh := high == nil || number.Cmp(high) < 0 || has("lte")
	if low != nil && high != nil && low.Cmp(high) > 0 { // protovalidate accepts numbers outside
		return aboveLow || belowHigh
	}
	return aboveLow && belowHigh
}

func (b bounds) text() []string {
	var out []string
	for _, bound := range []struct {
		rule  protoreflect.Name
		words string
	}{{"gt", "more than"}, {"gte", "at least"}, {"lt", "less than"}, {"lte", "at most"}, {"const", "exactly"}} {
		for _, edge := range b[bound.rule] {
			out = append(out, bound.words+" "+edge.RatString())
		}
	}
	if len(out) == 0 {
		out = append(out, "see its rules")
	}
	return out
}

// enumExample returns the name of a value that the rules accept, if possible anyName.
func enumExample(rules *validate.FieldRules, enum protoreflect.EnumDescriptor) string {
	demands := expressions(rules)
	bounds := boundsOf(typeRules(rules))
	example := ""
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		name := quote.Clip(string(value.Name()), protoargs.MaxName)
		accepted := bounds.accept(protoargs.Rational(value.Number()))
		if accepted && (example == "" && (value.Number() != 0 || !rules.GetRequired()) || name == anyName(enum)) {
			example = name
		}
	}
	if example == "" {
		example, demands = anyName(enum), append(demands, "see its rules")
	}
	return described(`"`+example+`"`, demands)
}

// otherDemands returns the demands of rules for values that have no other example.
func otherDemands(rules *validate.FieldRules) []string {
	demands := expressions(rules)
	set := typeRules(rules)
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
