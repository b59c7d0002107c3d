package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
)

// tokenOptions returns the option of a bus that seals and opens tokens with the key in a
// file, none without a file.
func tokenOptions(file string) ([]framework.BusOption, error) {
	if file == "" {
		return nil, nil
	}
	content, err := os.ReadFile(file) //nolint:gosec // who runs the command names the file
	if err != nil {
		return nil, fmt.Errorf("--token-key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(content)))
	if err != nil {
		return nil, fmt.Errorf("--token-key: %s has no hexadecimal digits: make a key with: openssl rand -hex 32", file)
	}
	return []framework.BusOption{framework.TokenKey(key)}, nil
}

// withToken returns a token with which a call can be settled, and the error of the call
// with the command that does so.
func withToken(err error) (string, error) {
	token, problem := framework.CallToken(err)
	if problem != nil { // such as a call without an identity
		return "", &explained{err.Error() + " (there is no token: " + problem.Error() + ")", err}
	}
	return token, &explained{err.Error() + "; ask what became of it: onecall settle " + token, err}
}

func (p *program) settle() *cobra.Command {
	var (
		keyFile string
		limit   time.Duration
	)
	command := &cobra.Command{
		Use:   "settle TOKEN",
		Short: "Ask what became of a call whose outcome is unknown",
		Long: `Ask the instance what became of a call whose outcome is unknown. TOKEN is that of a program
that made the call, or of the command call with --token-key. The output and the exit code are
those of the call. If the instance had not seen the call, it refuses it from now on.`,
		Example: `  onecall settle --token-key key.hex "$TOKEN"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := tokenOptions(keyFile)
			switch {
			case err != nil:
				return usage(err)
			case options == nil:
				return usage(errors.New("--token-key is missing: give the file with the key of the program that made the call"))
			}
			observed := new(lastSettled)
			return p.withBus(func(_ *etcd.Registry, bus *framework.Bus) error {
				return p.settleToken(cmd.Context(), bus, args[0], limit, observed)
			}, append(options, framework.Observe(observed))...)
		},
	}
	command.Flags().StringVar(&keyFile, "token-key", "", "file of the key, 64 hexadecimal digits")
	command.Flags().DurationVar(&limit, "timeout", settleLimit, "how long to wait for the end of a call that still runs")
	return command
}

// settleLimit is how long settle waits by default.
const settleLimit = 5 * time.Second

// lastSettled observes the settlement of this program.
type lastSettled struct{ record callRecord }

// Observe implements [framework.Observer].
func (l *lastSettled) Observe(_ context.Context, event framework.Event) {
	if settled, ok := event.(framework.CallSettled); ok {
		l.record = callRecord{RPC: settled.RPC, Instance: settled.Address, Incarnation: settled.Incarnation.String(), Millis: millis(settled.Duration)}
	}
}

func (p *program) settleToken(ctx context.Context, bus *framework.Bus, token string, limit time.Duration, observed *lastSettled) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var reply framework.Reply
	done := p.waiting("asking the instance")
	err := bus.SettleToken(ctx, token, &reply)
	done()
	if code := status.Code(err); framework.OutcomeOf(err) == framework.NotSent && (code == codes.InvalidArgument || code == codes.FailedPrecondition) {
		return usage(err) // of the token or its key
	}
	ended := (&lastCall{}).record(observed.record.RPC, err)
	ended.Instance, ended.Incarnation, ended.Millis = observed.record.Instance, observed.record.Incarnation, observed.record.Millis
	if err == nil {
		ended.Reply = readable(reply.Map())
	} else {
		err = ofCall(explain(ended.RPC, err, nil))
	}
	if written := p.writeCall(ended); err == nil {
		return written
	}
	return err
}
