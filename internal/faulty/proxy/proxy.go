package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/internal/faulty/replay"
)

// headerPatience bounds how long a caller may take over its headers.
const headerPatience = 10 * time.Second

// Retry is how a proxy retries unary calls.
type Retry struct {
	// On are the codes that are retried.
	On []codes.Code
	// Attempts is how often a call is sent at most, the first included.
	Attempts int
}

// LikeAMesh retries what service meshes do by default.
var LikeAMesh = Retry{On: []codes.Code{codes.Unavailable, codes.Canceled}, Attempts: 3}

// Config is what a proxy does. Its zero values do what an honest proxy would.
type Config struct {
	// Backends are the addresses of the instances; at least one.
	Backends []string
	// Dial connects to backends; nil is TCP.
	Dial replay.Dial
	// Pick picks the first backend of a call, by its place in Backends. Nil
	// takes them by turns. It is safe for all goroutines.
	Pick func(replay.Call) int
	// Replay says which copies of a call to send besides, each to any address;
	// nil is none. A copy at once is sent before the call itself. It is quick
	// and safe for all goroutines. See [Same] and [Elsewhere].
	Replay Replay
	// Retry is how unary calls are retried; the zero value does not. Each
	// further attempt goes to the next backend.
	Retry Retry
	// Streams tells which paths are streams; nil is none.
	Streams func(path string) bool
}

// Proxy is a running proxy. Its methods are safe for all goroutines.
type Proxy struct {
	config Config
	sender *replay.Sender
	player *replay.Player
	server *http.Server
	turn   atomic.Uint64

	running sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	closed   bool
	handlers int
	idle     *sync.Cond // signals that handlers fell
	actions  []Action
}

// Serve begins to serve a listener. Close ends it.
func Serve(listener net.Listener, config Config) (*Proxy, error) {
	if len(config.Backends) == 0 {
		return nil, errors.New("proxy: no backends: give the addresses of the instances")
	}
	p := &Proxy{config: config, sender: replay.NewSender(config.Dial)}
	p.idle = sync.NewCond(&p.mu)
	p.player = replay.NewPlayer(p.sender, nil)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	p.server = &http.Server{Handler: p.tracked(p.handler()), Protocols: &protocols, ReadHeaderTimeout: headerPatience}
	p.running.Go(func() { _ = p.server.Serve(listener) }) // ends by Close, and says so
	return p, nil
}

// Close ends all connections, gives up what is under way and waits for its end.
func (p *Proxy) Close() error {
	err := p.server.Close()
	p.player.Close()
	p.mu.Lock()
	p.closed = true
	for p.handlers > 0 {
		p.idle.Wait()
	}
	p.mu.Unlock()
	p.running.Wait()
	p.sender.Close()
	return err
}

// Wait waits until all replays of the calls so far are answered.
func (p *Proxy) Wait(ctx context.Context) error { return p.player.Wait(ctx) }

// Actions gives what the proxy did so far: what was passed on and retried in
// the order of the answers, then the replays in the order of theirs.
func (p *Proxy) Actions() []Action {
	p.mu.Lock()
	actions := slices.Clone(p.actions)
	p.mu.Unlock()
	for _, played := range p.player.Played() {
		actions = append(actions, Action{
			Kind: Replayed, Path: played.Call.Path, Identity: played.Call.Identity(),
			Backend: played.Copy.Address, Code: played.Result.Code, Err: played.Result.Err,
		})
	}
	return actions
}

// backend gives the backend of an attempt, from 0.
func (p *Proxy) backend(first, attempt int) string {
	return p.config.Backends[(first+attempt)%len(p.config.Backends)]
}

// first picks the place of a call's first backend.
func (p *Proxy) first(call replay.Call) int {
	if p.config.Pick != nil {
		return p.config.Pick(call)
	}
	return int(p.turn.Add(1)-1) % len(p.config.Backends) //nolint:gosec // a test does not count so far
}

// tracked lets Close wait for handlers, for which net/http does not.
func (p *Proxy) tracked(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return
		}
		p.handlers++
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.handlers--
			p.idle.Broadcast()
		}()
		handler.ServeHTTP(w, r)
	})
}
