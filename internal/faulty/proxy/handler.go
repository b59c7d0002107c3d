package proxy

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/internal/faulty/replay"
)

// backendKey holds the backend that a call is first sent to.
type backendKey struct{}

func (p *Proxy) handler() http.Handler {
	streams := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			backend, _ := r.In.Context().Value(backendKey{}).(string)
			r.Out.URL = &url.URL{Scheme: "http", Host: backend, Path: r.In.URL.Path}
			r.Out.Host = r.In.Host
		},
		Transport:     p.sender.Transport(),
		FlushInterval: -1, // each message at once
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			write(w, replay.Result{Code: codes.Unavailable, Message: err.Error(), Err: err})
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := replay.Call{Authority: r.Host, Path: r.URL.Path, Header: r.Header}
		first := p.first(call)
		if p.config.Streams != nil && p.config.Streams(call.Path) {
			backend := p.backend(first, 0)
			p.record(Action{Kind: Streamed, Path: call.Path, Identity: call.Identity(), Backend: backend})
			streams.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), backendKey{}, backend)))
			return
		}
		var err error
		if call.Body, err = io.ReadAll(r.Body); err != nil {
			panic(http.ErrAbortHandler) // the caller gave up
		}
		write(w, p.send(r.Context(), call, first))
	})
}

// send sends a call, and again while it is to be retried.
func (p *Proxy) send(ctx context.Context, call replay.Call, first int) replay.Result {
	if p.config.Replay != nil {
		p.player.Play(call, p.config.Replay(call, p.backend(first, 0)))
	}
	kind := Passed
	for attempt := 0; ; attempt++ {
		backend := p.backend(first, attempt)
		result := p.sender.Send(ctx, backend, call)
		p.record(Action{Kind: kind, Path: call.Path, Identity: call.Identity(), Backend: backend, Code: result.Code, Err: result.Err})
		if attempt+1 >= p.config.Retry.Attempts || ctx.Err() != nil || !slices.Contains(p.config.Retry.On, result.Code) {
			return result
		}
		kind = Retried
	}
}

func (p *Proxy) record(action Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.actions = append(p.actions, action)
}

// write answers a caller with a backend's answer, or with an error alone when
// there is none.
func write(w http.ResponseWriter, result replay.Result) {
	head := w.Header()
	if result.Err != nil {
		head.Set("Content-Type", "application/grpc")
		head.Set("Grpc-Status", strconv.Itoa(int(result.Code)))
		head.Set("Grpc-Message", "proxy: "+strings.ReplaceAll(url.PathEscape(result.Message), "%20", " "))
		return
	}
	maps.Copy(head, result.Header)
	head["Date"] = nil          // which net/http would add
	_, _ = w.Write(result.Body) // fails only when the caller is gone
	for name, values := range result.Trailer {
		head[http.TrailerPrefix+name] = values
	}
}
