package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/onecall-dev/onecall/framework"
)

// replyRecord is a reply of a stream in the output.
type replyRecord struct {
	RPC   string `json:"rpc"`
	Reply any    `json:"reply"`
}

// request makes the parameters of a request of some of the command line and some of
// standard input.
type request struct {
	rpc   *framework.RPCDescription
	types types
	given []parameter
}

func (r request) with(more []parameter) (framework.Args, error) {
	all, err := distinct(append(slices.Clip(r.given), more...))
	if err != nil {
		return nil, err
	}
	return r.types.arguments(r.rpc, all)
}

// streamOn makes a call of a stream. It sends a request with the parameters, or one for
// each line of standard input, and prints each reply on a line.
func (p *program) streamOn(ctx context.Context, bus *framework.Bus, call request, input bool, observed *lastCall, flags callFlags) error {
	var lines io.Reader
	var more []parameter
	var err error
	switch {
	case input && call.rpc.ClientStream:
		lines = p.in
	case input:
		more, err = readObject(p.in)
	}
	if err != nil {
		return usage(err)
	}
	only, err := call.with(more)
	if err != nil {
		return usage(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if flags.timeout != 0 {
		ctx, cancel = context.WithTimeout(ctx, flags.timeout)
		defer cancel()
	}
	var first []any
	if lines == nil {
		first = append(first, only)
	}
	stream, err := bus.Stream(ctx, call.rpc.Name, first...)
	var replies []any
	if err == nil {
		replies, err = p.exchange(stream, cancel, func() error {
			if lines == nil {
				return nil
			}
			return call.sendLines(stream, lines)
		}, call.rpc.Name)
	}
	if p.format == "yaml" {
		fmt.Fprintln(p.out, "---")
	}
	return p.ended(call.rpc, only, lines != nil, observed.record(call.rpc.Name, err), replies, err, flags)
}

// ended prints what became of a call, and returns its error.
func (p *program) ended(rpc *framework.RPCDescription, args framework.Args, lines bool, record callRecord, replies []any, err error, flags callFlags) error {
	record.Replies = replies
	if err != nil {
		err = explain(record.RPC, err, rpc)
		if flags.tokenKey != "" && framework.OutcomeOf(err) == framework.Unknown {
			record.Token, err = withToken(err)
		}
	}
	if p.verbose && rpc != nil {
		fmt.Fprintln(p.errs, p.grpcurl(rpc, args, record.Instance, lines))
	}
	if written := p.writeCall(record); err == nil {
		return written
	}
	return ofCall(err)
}

// sendLines sends a request for each line.
func (r request) sendLines(stream *framework.Stream, from io.Reader) error {
	reader := bufio.NewReader(from)
	for number := 1; ; number++ {
		line, err := reader.ReadString('\n')
		if strings.TrimSpace(line) != "" {
			if failed := r.sendLine(stream, line); failed != nil {
				return fmt.Errorf("line %d: %w", number, failed)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading standard input: %w", err)
		}
	}
}

func (r request) sendLine(stream *framework.Stream, line string) error {
	more, err := readObject(strings.NewReader(line))
	if err != nil {
		return err
	}
	args, err := r.with(more)
	if err != nil {
		return err
	}
	return stream.Send(args)
}

// exchange sends the requests while it receives and prints the replies. It returns them if
// the format has them in one document.
func (p *program) exchange(stream *framework.Stream, cancel context.CancelFunc, send func() error, rpc string) (replies []any, err error) {
	unsent := make(chan error, 1)
	go func() {
		err := send()
		if err == nil {
			err = stream.CloseSend()
		}
		if err != nil && !errors.Is(err, io.EOF) { // after io.EOF receiving returns why
			unsent <- err
			cancel() // no other request follows
		}
	}()
	for {
		reply, err := stream.Recv()
		if err == nil {
			if replies, err = p.replied(replies, rpc, readable(reply.Map())); err != nil {
				return replies, err
			}
			continue
		}
		select {
		case failed := <-unsent:
			return replies, &explained{fmt.Sprintf("%s (%v)", withoutGo(strings.Replace(failed.Error(), ": "+rpc+": ", ": ", 1)), framework.OutcomeOf(err)), err}
		default:
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return replies, err
	}
}

// withoutGo returns the text of an error without the right call in Go.
func withoutGo(text string) string {
	text, _, _ = strings.Cut(text, inGo)
	return text
}

// replied prints a reply, or keeps it for the one document of the format.
func (p *program) replied(replies []any, rpc string, reply any) ([]any, error) {
	switch p.format {
	case "json":
		return append(replies, reply), nil
	case "jsonl":
		return nil, writeJSON(p.out, replyRecord{rpc, reply}, "")
	case "yaml":
		if _, err := fmt.Fprintln(p.out, "---"); err != nil {
			return nil, err
		}
		return nil, writeYAML(p.out, replyRecord{rpc, reply})
	default:
		return nil, writeJSON(p.out, reply, "")
	}
}
