package client

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/contract"
)

const (
	// tokenPrefix begins each token. It is authenticated with the rest.
	tokenPrefix = "onecall1."
	// tokenKeyBytes is the length of a key of AES-256.
	tokenKeyBytes = 32
	// longestToken is how long a text may be that is read as a token.
	longestToken = 8 << 10
	// tokenKept is how long a token is accepted. No server remembers a call for longer.
	tokenKept = atmostonce.SessionKept
)

// NewTokens returns what seals tokens with a key: see framework.TokenKey.
func NewTokens(key []byte) (cipher.AEAD, error) {
	if len(key) != tokenKeyBytes {
		return nil, fmt.Errorf("the key has %d bytes instead of %d: give random ones from a secret store", len(key), tokenKeyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// token is what a token has inside.
type token struct {
	Sent    int64      `json:"sent"` // when the call was sent, in Unix seconds
	Call    string     `json:"call"` // the identity
	API     string     `json:"api"`
	Address string     `json:"address"`
	Method  string     `json:"method"` // gRPC's path
	RPC     string     `json:"rpc"`
	Reply   string     `json:"reply,omitempty"` // the full proto name
	Stream  bool       `json:"stream,omitempty"`
	Several bool       `json:"several,omitempty"`
	Shared  bool       `json:"shared,omitempty"`
	Code    codes.Code `json:"code"` // of the call's error
}

// CallToken returns a token of a call: see framework.CallToken.
func CallToken(err error) (string, error) {
	const name = "onecall: CallToken"
	asked, wrong := settlementOf(name, err)
	if wrong != nil {
		return "", wrong
	}
	keyed := asked.bus.options.Tokens
	if keyed == nil {
		return "", noTokenKey(name)
	}
	plain, wrong := json.Marshal(token{
		Sent: asked.sent.Unix(), Call: asked.identity.Value(), API: asked.at.api, Address: asked.at.address,
		Method: asked.path, RPC: asked.rpc, Reply: string(asked.reply), Stream: asked.stream, Several: asked.several, Shared: asked.shared, Code: status.Code(err),
	})
	if wrong != nil {
		return "", callerr.Faulty(name, wrong)
	}
	sealed := keyed.Seal(nil, nil, plain, []byte(tokenPrefix)) //nolint:gosec // G407: it makes a random nonce itself
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// noTokenKey returns the error of a bus without a key.
func noTokenKey(name string) error {
	return callerr.NotSent(codes.FailedPrecondition, name+": the bus has no key for tokens: set option TokenKey, with the same key in both processes")
}

// SettleToken settles the call of a token: see framework.Bus.SettleToken.
func (b *Bus) SettleToken(ctx context.Context, text string, reply any) error {
	const name = "onecall: SettleToken"
	if ctx == nil {
		return callerr.Invalid(name, "the context is nil: give context.Background() if there is no other")
	}
	if b.options.Tokens == nil {
		return noTokenKey(name)
	}
	opened, err := openToken(b.options.Tokens, text)
	if err != nil {
		return callerr.Invalid(name, "%v", err)
	}
	asked, err := b.settlementOfToken(ctx, opened)
	if err != nil {
		return callerr.Invalid(name, "the token names no call: %v", err)
	}
	before := callerr.New(status.New(opened.Code, asked.rpc+": the call of a token, whose outcome is not known"), atmostonce.Unknown,
		asked.rpc+": the call of the token ended with "+opened.Code.String())
	return asked.settle(ctx, before, reply)
}

// openToken opens a token. Its errors do not repeat the text.
func openToken(keyed cipher.AEAD, text string) (token, error) {
	sealed, found := strings.CutPrefix(text, tokenPrefix)
	if !found || len(text) > longestToken {
		return token{}, errors.New("the text is not a token: give one of CallToken, unchanged")
	}
	bytes, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	var plain []byte
	if err == nil {
		plain, err = keyed.Open(nil, nil, bytes, []byte(tokenPrefix))
	}
	if err != nil {
		return token{}, errors.New("the token cannot be opened: it was changed or cut, or sealed with another key: both processes need the same option TokenKey")
	}
	var opened token
	if err := json.Unmarshal(plain, &opened); err != nil {
		return token{}, errors.New("the token cannot be read: it is of another version of the framework")
	}
	if age := time.Since(time.Unix(opened.Sent, 0)); age > tokenKept {
		return token{}, fmt.Errorf("the call of the token is %v old: no instance remembers a call for more than %v", age.Round(time.Second), tokenKept)
	}
	return opened, nil
}

// settlementOfToken returns what is needed to settle the call of a token.
func (b *Bus) settlementOfToken(ctx context.Context, opened token) (settlement, error) {
	identity, err := atmostonce.ParseIdentity(opened.Call)
	if err == nil {
		err = contract.CheckName(opened.API)
	}
	if err != nil {
		return settlement{}, err
	}
	asked := settlement{
		bus: b, path: opened.Method, rpc: opened.RPC, identity: identity,
		at:      askerKey{api: opened.API, address: opened.Address, incarnation: identity.Incarnation},
		several: opened.Several, shared: opened.Shared, sent: time.Unix(opened.Sent, 0), stream: opened.Stream, reply: protoreflect.FullName(opened.Reply),
		opts: settleOptions(nil, b.options.replyLimit),
	}
	if b.contracts.Method(asked.path) != nil { // linked in: it waits for nothing
		route, err := b.route(ctx, asked.path, nil)
		if err != nil {
			return settlement{}, err
		}
		asked.rules = route.rules
	}
	return asked, nil
}
