package framework

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/internal/client"
)

// ErrForgotten is in the error of a call of which nothing can be learned any more: its
// instance has ended, or does not know the call. errors.Is finds it.
var ErrForgotten = callerr.ErrForgotten

// SettleOption is an option of [NewBus] and [Dial], and of one call.
type SettleOption interface {
	BusOption
	grpc.CallOption
}

// SettleWithin sets for how long after the deadline of a unary call the bus asks the
// instance what became of the call. It is an option of a bus, or of one call. If the
// answer comes in that time, the call returns its reply or the error of its handler,
// although the deadline has passed. The end of the call's context by its deadline does
// not end that time, but its cancellation does.
//
// The default is 0: a call returns at its deadline. Until the deadline the bus always
// asks, if the connection of a call breaks.
func SettleWithin(limit time.Duration) SettleOption {
	return settleOption{client.SettleOption{Within: limit}}
}

// settleOption is the implementation of [SettleOption].
type settleOption struct{ client.SettleOption }

// applyToBus implements [BusOption].
func (o settleOption) applyToBus(options *client.Options) error {
	options.SettleWithin = o.Within
	return o.Check()
}

// Settle asks the instance to which a call was bound what became of the call. err is
// the error of the call, with the outcome [Unknown]. It may be wrapped. Settle returns
// nil if the call succeeded, and stores its reply in reply: a message of the reply's
// type, or a *[Reply]. If reply is nil, only the outcome is of interest. A stream has
// no reply here.
//
// Otherwise it returns an error whose outcome says what is known now:
//   - [Executed]: the error of the handler. If the instance did not keep the reply, the
//     code is DATA_LOSS.
//   - [Refused]: the handler did not start and never will. If the instance had not
//     seen the call, it refuses it from now on. So Settle can also make sure that a
//     call does not run any more.
//   - [Unknown]: the call had not ended when ctx ended, or the instance could not be
//     asked. The error can be settled again. [ErrForgotten] is in the error if nothing
//     can be learned any more, because the instance has ended or does not know the
//     call.
//
// Settle waits until the call has ended. If ctx has no deadline, it waits for 5 s. An
// INVALID_ARGUMENT error says that err or reply cannot be used.
func (b *Bus) Settle(ctx context.Context, err error, reply any) error {
	return settleInto(reply, func(reply any) error { return b.calls.Settle(ctx, err, reply) })
}

// SettleToken settles a call as [Bus.Settle] does, from a text of [CallToken]. The
// bus needs the key with which the text was sealed, and the authority of the program
// that made the call: instances answer only the same principal. A text that was changed
// or cut, is older than a day, or was sealed with another key is an INVALID_ARGUMENT
// error. If the bus has no key, the error is FAILED_PRECONDITION.
func (b *Bus) SettleToken(ctx context.Context, token string, reply any) error {
	return settleInto(reply, func(reply any) error { return b.calls.SettleToken(ctx, token, reply) })
}

// settleInto calls settle, and stores its reply in reply if that is a *Reply.
func settleInto(reply any, settle func(reply any) error) error {
	into, ok := reply.(*Reply)
	if !ok || into == nil {
		return settle(reply)
	}
	named := new(client.NamedReply)
	err := settle(named)
	if err == nil {
		*into = Reply{rpc: named.RPC, message: named.Message, types: named.Types}
	}
	return err
}

// CallToken returns a text with which another process can settle a call by
// [Bus.SettleToken], such as after a restart. err is the error of the call, as for
// [Bus.Settle]. The text has only letters, digits and ".-_". It is sealed with the
// key of option [TokenKey], which the call's bus and the other process need. It can
// be used for a day at most, and instances forget calls sooner. If there is no key, the
// error is FAILED_PRECONDITION.
func CallToken(err error) (string, error) { return client.CallToken(err) }

// TokenKey sets the key with which [CallToken] seals what is needed to settle a call,
// and [Bus.SettleToken] opens it. It has 32 bytes, from a cryptographic source.
// Processes that hand calls to each other have the same key. It must be kept secret:
// with the key and a token, a program can use up the sequence numbers of a bus. By
// default there is no key, and calls cannot be handed over.
func TokenKey(key []byte) BusOption {
	return busOption(func(o *client.Options) error {
		tokens, err := client.NewTokens(key)
		if err != nil {
			return fmt.Errorf("option TokenKey: %w", err)
		}
		o.Tokens = tokens
		return nil
	})
}
