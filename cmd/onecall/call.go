package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/observe"
)

// callRecord is what became of a call, in the output.
type callRecord struct {
	RPC         string  `json:"rpc"`
	Outcome     string  `json:"outcome"`
	Code        string  `json:"code"`
	Message     string  `json:"message,omitempty"`
	Details     []any   `json:"details,omitempty"`
	Instance    string  `json:"instance,omitempty"`
	Incarnation string  `json:"incarnation,omitempty"`
	Attempts    int     `json:"attempts"`
	Millis      float64 `json:"millis"`
	Token       string  `json:"token,omitempty"`
	Reply       any     `json:"reply,omitempty"`
	// Replies are those of a stream.
	Replies []any `json:"replies,omitempty"`
}

// lastCall observes the call of this program.
type lastCall struct {
	// mu guards the fields below.
	mu      sync.Mutex
	ended   framework.CallEnded
	attempt framework.AttemptEnded
}

// Observe implements [framework.Observer].
func (l *lastCall) Observe(_ context.Context, event framework.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch event := event.(type) {
	case framework.CallEnded:
		l.ended = event
	case framework.AttemptEnded:
		l.attempt = event
	}
}

// callFlags are the flags of the command call.
type callFlags struct {
	timeout  time.Duration
	headers  []string
	tokenKey string
}

func (p *program) call() *cobra.Command {
	var flags callFlags
	command := &cobra.Command{
		Use:   "call API.RPC [NAME=TEXT | NAME:=JSON | NAME=@FILE | NAME:=@FILE | -] …",
		Short: "Call an RPC by its name",
		Long: `Call an RPC by its name, with named parameters.

NAME=TEXT is a text, a number, a bool, the name of an enum's value, a time such as
2026-01-02T15:04:05Z or a duration such as 1.5s: what the parameter takes. NAME:=JSON is any
parameter, such as a message or a list. NAME=@FILE and NAME:=@FILE read it from a file. "-"
reads a JSON object with parameters from standard input. If the RPC takes a stream of
requests, "-" reads one from each line, and the other parameters are in all of them.

The reply is JSON on standard output, and each reply of a stream a line. With -o json, jsonl
or yaml there is a record of the call too, also if the call fails. With -v the call is logged,
with the instance, a hash of the call's identity, the time and the outcome, and the same call
for grpcurl.`,
		Example: `  onecall call auth.check_password username=admin password=secret` + "\n" +
			`  echo '{"username": "admin"}' | onecall call auth.check_password - password=@password.txt` + "\n" +
			`  onecall call auth.get_user username=admin -o json` + "\n" +
			`  printf '{"text": "a"}\n{"text": "b"}\n' | onecall call chat.talk -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.callByName(cmd.Context(), args[0], args[1:], flags)
		},
		ValidArgsFunction: p.completeCall,
	}
	command.Flags().DurationVar(&flags.timeout, "timeout", 0, "how long the call may take (default: the API's timeout; a stream has none)")
	command.Flags().StringArrayVarP(&flags.headers, "header", "H", nil, `metadata of the call, "name: value"; can be repeated`)
	command.Flags().StringVar(&flags.tokenKey, "token-key", "", "file of a key with 64 hexadecimal digits: if the outcome is unknown, print a token for the command settle")
	return command
}

func (p *program) callByName(ctx context.Context, name string, args []string, flags callFlags) error {
	given, input, err := readParameters(args)
	if err != nil && !errors.Is(err, errPositional) {
		return usage(err)
	}
	positional := err
	ctx, err = withHeaders(ctx, flags.headers)
	if err != nil {
		return usage(err)
	}
	observed := new(lastCall)
	options, err := tokenOptions(flags.tokenKey)
	if err != nil {
		return usage(err)
	}
	options = append(options, framework.Observe(observed))
	if p.verbose {
		options = append(options, framework.LogCalls())
	}
	return p.withBus(func(_ *etcd.Registry, bus *framework.Bus) error {
		if positional != nil {
			return usage(fmt.Errorf("%w: write %s", positional, rightCall(ctx, bus, name)))
		}
		return p.callOn(ctx, bus, name, given, input, observed, flags)
	}, options...)
}

// withHeaders adds metadata of the command line to a context.
func withHeaders(ctx context.Context, headers []string) (context.Context, error) {
	var pairs []string
	for _, header := range headers {
		name, value, ok := strings.Cut(header, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf(`--header %q is not "name: value"`, header)
		}
		pairs = append(pairs, strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...), nil
}

// rightCall returns an example of a call of an RPC, without values if the RPC cannot be
// described.
func rightCall(ctx context.Context, bus *framework.Bus, name string) string {
	if rpc, err := describeRPC(ctx, bus, name); err == nil {
		if example := exampleCall(*rpc); example != "" {
			return example
		}
	}
	return "onecall call " + name + " NAME=VALUE …"
}

// describeRPC returns the description of an RPC.
func describeRPC(ctx context.Context, bus *framework.Bus, name string) (*framework.RPCDescription, error) {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return nil, fmt.Errorf("%q is not the name of an RPC, such as auth.check_password", name)
	}
	described, err := bus.Describe(ctx, name[:dot])
	if err != nil {
		return nil, err
	}
	return rpcOf(described, name)
}

// callOn makes the call and prints what became of it. input says that parameters are on
// standard input too.
func (p *program) callOn(ctx context.Context, bus *framework.Bus, name string, given []parameter, input bool, observed *lastCall, flags callFlags) error {
	done := p.waiting("describing " + name)
	rpc, err := describeRPC(ctx, bus, name)
	done()
	if err == nil && (rpc.ClientStream || rpc.ServerStream) {
		return p.streamOn(ctx, bus, request{rpc, newTypes(rpc.Parameters), given}, input, observed, flags)
	}
	args := make(framework.Args)
	// Without a description the call fails too, with an error that has an outcome.
	if err == nil {
		var more []parameter
		if input {
			if more, err = readObject(p.in); err != nil {
				return usage(err)
			}
		}
		if args, err = (request{rpc, newTypes(rpc.Parameters), given}).with(more); err != nil {
			return usage(err)
		}
	}
	var options []any
	if flags.timeout != 0 {
		options = append(options, framework.Timeout(flags.timeout))
	}
	done = p.waiting("calling " + name)
	reply, err := bus.Call(ctx, name, append([]any{args}, options...)...)
	done()
	record := observed.record(name, err)
	if err == nil {
		record.Reply = readable(reply.Map())
	}
	return p.ended(rpc, args, false, record, nil, err, flags)
}

// explained is an error of a call in words of the command line.
type explained struct {
	text string
	err  error
}

// Error implements error.
func (e *explained) Error() string { return e.text }

// Unwrap returns the error of the bus.
func (e *explained) Unwrap() error { return e.err }

// explain adds what an error of a handler does not say, and replaces the right call in Go,
// which the error of wrong parameters has, by a command line. A test sees that the words are
// still those of the bus.
func explain(name string, err error, rpc *framework.RPCDescription) error {
	if _, done := errors.AsType[*explained](err); done {
		return &explained{name + ": " + err.Error(), err}
	}
	if framework.OutcomeOf(err) == framework.Executed {
		ended := status.Convert(err)
		return &explained{fmt.Sprintf("%s: %s: %s (the call ran)", name, observe.StatusName(ended.Code()), ended.Message()), err}
	}
	text, _, is := strings.Cut(err.Error(), inGo)
	if !is || rpc == nil {
		return err
	}
	return &explained{text + " Write " + exampleCall(*rpc), err}
}

// inGo begins the right call in Go that an error shows.
const inGo = " Write bus.Call("

// writeCall prints a call: its reply alone, or the record if the format is for programs.
func (p *program) writeCall(record callRecord) error {
	switch {
	case p.format != "table" && p.format != "plain":
		return p.writeValue(record)
	case record.Reply != nil:
		return p.writeValue(record.Reply)
	default:
		return nil
	}
}

// record returns the record of a call that ended with err.
func (l *lastCall) record(name string, err error) callRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	ended := status.Convert(err)
	record := callRecord{
		RPC: name, Outcome: observe.OutcomeName(framework.OutcomeOf(err)), Code: observe.StatusName(ended.Code()), Message: remedy(ended.Message()),
		Instance: l.attempt.Address, Incarnation: l.attempt.Incarnation.String(), Attempts: l.ended.Attempts, Millis: millis(l.ended.Duration),
	}
	for _, detail := range ended.Proto().GetDetails() {
		record.Details = append(record.Details, readableDetail(detail))
	}
	return record
}
