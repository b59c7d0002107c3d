package validate

import (
	"fmt"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	"github.com/onecall-dev/onecall/internal/quote"
)

// The most bytes of a status. A status is sent in headers: grpc-message contains the text
// in percent-encoding; grpc-status-details-bin contains the text again and the details, in
// base64. All together stay below 7.5 KiB.
const (
	// maxTold is the most violations in the text.
	maxTold = 10
	// maxTextBytes bounds the encoded violations in the text. The first violation is
	// always in the text.
	maxTextBytes = 1024
	// maxDetailBytes bounds the violations in the details.
	maxDetailBytes = 3 * 1024
	// maxOwnBytes bounds one of protovalidate's own violations.
	maxOwnBytes = 1024
	// maxWordBytes bounds each path, rule id and message.
	maxWordBytes = 200
)

// text returns the violations as the text of the error.
func (e *Error) text(shown []sentViolation, hidden int) string {
	words := make([]string, 0, maxTold)
	size := 0
	for _, next := range shown[:min(maxTold, len(shown))] {
		word := e.word(next.Violation)
		if size += encodedSize(word); size > maxTextBytes && len(words) > 0 {
			break
		}
		words = append(words, word)
	}
	if rest := len(shown) - len(words) + e.more; rest > 0 {
		words = append(words, fmt.Sprintf("and %d more", rest))
	}
	if hidden > 0 {
		words = append(words, fmt.Sprintf("%d in fields that are not shown", hidden))
	}
	if e.partial {
		words = append(words, "and maybe more, which are not listed for a message so large")
	}
	kind := "request"
	if e.Reply {
		kind = "reply"
	}
	text := line(e.RPC) + ": the " + kind + " breaks the API's rules: " + strings.Join(words, "; ")
	if detailed := len(e.fitting(shown)); detailed < len(shown)+e.more {
		text += fmt.Sprintf(" (the details hold the first %d)", detailed)
	}
	return text
}

// word returns the text of one violation.
func (e *Error) word(violation Violation) string {
	var word strings.Builder
	word.WriteString(line(violation.Field))
	if message := line(violation.Message); message != "" && !e.Reply {
		if word.Len() > 0 {
			word.WriteString(": ")
		}
		word.WriteString(message)
	}
	if word.Len() == 0 {
		word.WriteString("the message as a whole")
	}
	if rule := line(violation.Rule); rule != "" && (e.Reply || !strings.Contains(violation.Message, rule)) {
		word.WriteString(" [" + rule + "]")
	}
	return word.String()
}

// line returns any text short and on one line.
func line(text string) string { return quote.Line(text, maxWordBytes) }

// encodedSize returns the size of a text in percent-encoding.
func encodedSize(text string) int {
	size := len(text)
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			size += len("%00") - 1
		}
	}
	return size
}

// detail is a violation in the details of a status.
type detail struct {
	field *errdetails.BadRequest_FieldViolation // nil in a reply
	own   *validate.Violation                   // nil when there is none
}

// fitting returns the first violations, as many as fit into the details.
func (e *Error) fitting(shown []sentViolation) []detail {
	var details []detail
	size := 0
	for _, next := range shown {
		var d detail
		if !e.Reply {
			d.field = &errdetails.BadRequest_FieldViolation{
				Field:       line(next.Field),
				Description: line(next.Message),
				Reason:      line(next.Rule),
			}
			size += proto.Size(d.field)
		}
		if next.own != nil && proto.Size(next.own) <= maxOwnBytes {
			d.own = next.own
			size += proto.Size(d.own)
		}
		if size > maxDetailBytes {
			break
		}
		details = append(details, d)
	}
	return details
}

// details returns the detail messages of a status.
func (e *Error) details(shown []sentViolation) []protoadapt.MessageV1 {
	var request errdetails.BadRequest
	var own validate.Violations_builder
	for _, d := range e.fitting(shown) {
		if d.field != nil {
			request.FieldViolations = append(request.FieldViolations, d.field)
		}
		if d.own != nil {
			own.Violations = append(own.Violations, d.own)
		}
	}
	var details []protoadapt.MessageV1
	if len(request.GetFieldViolations()) > 0 {
		details = append(details, &request)
	}
	if len(own.Violations) > 0 {
		details = append(details, protoadapt.MessageV1Of(own.Build()))
	}
	return details
}
