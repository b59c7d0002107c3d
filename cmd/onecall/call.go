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
		Long: `Call a unary RPC by its name, with named parameters.

NAME=TEXT is a text, a number, a bool, the name of an enum's value, a time such as
2026-01-02T15:04:05Z or a duration such as 1.5s: what the parameter takes. NAME:=JSON is any
parameter, such as a message or a list. NAME=@FILE and NAME:=@FILE read it from a file. "-"
reads a JSON object with parameters from standard input.

The reply is JSON on standard output. With -o json, jsonl or yaml it is part of a record of
the call, which is also written if the call fails. With -v the attempts of the call are
logged, and the same call for grpcurl.`,
		Example: `  onecall call auth.check_password username=admin password=secret` + "\n" +
			`  echo '{"username": "admin"}' | onecall call auth.check_password - password=@password.txt` + "\n" +
			`  onecall call auth.get_user username=admin -o json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.callByName(cmd.Context(), args[0], args[1:], flags)
		},
		ValidArgsFunction: p.completeCall,
	}
	command.Flags().DurationVar(&flags.timeout, "timeout", 0, "how long the call may take (default: the API's timeout)")
	command.Flags().StringArrayVarP(&flags.headers, "header", "H", nil, `metadata of the call, "name: value"; can be repeated`)
	command.Flags().StringVar(&flags.tokenKey, "token-key", "", "file of a key with 64 hexadecimal digits: if the outcome is unknown, print a token for the command settle")
	return command
}

func (p *program) callByName(ctx context.Context, name string, args []string, flags callFlags) error {
	given, err := readParameters(args, p.in)
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
		return p.callOn(ctx, bus, name, given, observed, flags)
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

// callOn makes the call and prints what became of it.
func (p *program) callOn(ctx context.Context, bus *framework.Bus, name string, given []parameter, observed *lastCall, flags callFlags) error {
	var options []any
	if flags.timeout != 0 {
		options = append(options, framework.Timeout(flags.timeout))
	}
	args := make(framework.Args)
	// Without a description the call fails too, with an error that has an outcome.
	rpc, err := describeRPC(ctx, bus, name)
	if err == nil {
		if args, err = newTypes(rpc.Parameters).arguments(rpc, given); err != nil {
			return usage(err)
		}
	}
	reply, err := bus.Call(ctx, name, append([]any{args}, options...)...)
	record := observed.record(name, err)
	if err == nil {
		record.Reply = readable(reply.Map())
	} else if err = explain(name, err, rpc); flags.tokenKey != "" && framework.OutcomeOf(err) == framework.Unknown {
		record.Token, err = withToken(err)
	}
	if p.verbose && rpc != nil {
		fmt.Fprintln(p.errs, p.grpcurl(rpc, args, record.Instance))
	}
	if written := p.writeCall(record); err == nil {
		return written
	}
	return ofCall(err)
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
	if framework.OutcomeOf(err) == framework.Executed {
		ended := status.Convert(err)
		return &explained{fmt.Sprintf("%s: %s: %s (the call ran)", name, observe.StatusName(ended.Code()), ended.Message()), err}
	}
	text, _, inGo := strings.Cut(err.Error(), " Write bus.Call(")
	if !inGo || rpc == nil {
		return err
	}
	return &explained{strings.ReplaceAll(text, "framework.Args or a struct", "JSON") + " Write " + exampleCall(*rpc), err}
}

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
		RPC: name, Outcome: observe.OutcomeName(framework.OutcomeOf(err)), Code: observe.StatusName(ended.Code()), Message: ended.Message(),
		Instance: l.attempt.Address, Incarnation: l.attempt.Incarnation.String(), Attempts: l.ended.Attempts, Millis: millis(l.ended.Duration),
	}
	for _, detail := range ended.Proto().GetDetails() {
		record.Details = append(record.Details, readableDetail(detail))
	}
	return record
}
