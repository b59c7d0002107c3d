package main

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/onecall-dev/onecall/framework"
)

// readable returns a value of a reply with its durations as text, as parameters have them.
func readable(value any) any {
	switch read := value.(type) {
	case time.Duration:
		return strconv.FormatFloat(read.Seconds(), 'f', -1, 64) + "s"
	case map[string]any:
		out := make(map[string]any, len(read))
		for name, inner := range read {
			out[name] = readable(inner)
		}
		return out
	case []any:
		out := make([]any, len(read))
		for i := range read {
			out[i] = readable(read[i])
		}
		return out
	}
	return value
}

// readableDetail returns a detail of an error: as JSON with "@type", or only the type if
// this program does not know it.
func readableDetail(detail *anypb.Any) any {
	text, err := protojson.Marshal(detail)
	if err != nil {
		return map[string]string{"@type": detail.GetTypeUrl()}
	}
	return json.RawMessage(text)
}

// grpcurl returns the same call for grpcurl. lines says that requests are lines of standard
// input. Values of fields with debug_redact are not
// shown.
func (p *program) grpcurl(rpc *framework.RPCDescription, args framework.Args, address string, lines bool) string {
	request := newTypes(rpc.Parameters).hidden(rpc.Parameters, readable(map[string]any(args)))
	text, err := json.Marshal(request)
	if err != nil { // such as a map with keys that JSON does not have
		text = []byte("{…}")
	}
	if address == "" {
		address = "HOST:PORT"
	}
	security := "-plaintext"
	if chosen := p.tlsOfCalls(); chosen.TLSCA != "" {
		security = "-cacert " + chosen.TLSCA + " -authority " + rpc.Name[:strings.LastIndexByte(rpc.Name, '.')]
		if chosen.TLSCert != "" {
			security = "-cert " + chosen.TLSCert + " -key " + chosen.TLSKey + " " + security
		}
	}
	data := "'" + strings.ReplaceAll(string(text), "'", `'\''`) + "'"
	if lines {
		data = "@" // standard input
	}
	return "grpcurl " + security + " -d " + data + " " + address + " " + strings.TrimPrefix(rpc.Method, "/")
}

// tlsOfCalls returns the files for TLS with instances, from wherever they are set.
func (p *program) tlsOfCalls() settings {
	chosen, err := p.instanceSettings()
	if err == nil && !chosen.hasInstances() {
		chosen = settings{TLSCA: os.Getenv("ONECALL_TLS_CA"), TLSCert: os.Getenv("ONECALL_TLS_CERT"), TLSKey: os.Getenv("ONECALL_TLS_KEY")}
	}
	return chosen
}

// hidden returns the value of a message without the values of fields with debug_redact.
func (t types) hidden(fields []framework.FieldDescription, value any) any {
	switch read := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(read))
		for name, inner := range read {
			out[name] = inner
			for _, field := range fields {
				if field.Name == name {
					out[name] = t.hidden(t[parseKind(field.Type).value], inner)
				}
				if field.Name == name && field.Redacted {
					out[name] = "…"
				}
			}
		}
		return out
	case []any:
		out := make([]any, len(read))
		for i := range read {
			out[i] = t.hidden(fields, read[i])
		}
		return out
	}
	return value
}
