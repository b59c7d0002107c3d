package timeout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/timeout"
)

func TestTheRPCsLimitGoesBeforeTheAPIsAndThatBeforeTheDefault(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		rpc, api time.Duration
		want     timeout.Limit
	}{
		"nothing is declared":          {0, 0, timeout.Limit{Duration: timeout.Default, Source: timeout.FromDefault}},
		"the API declares":             {0, 2 * time.Second, timeout.Limit{Duration: 2 * time.Second, Source: timeout.FromAPI}},
		"the RPC declares":             {time.Hour, 0, timeout.Limit{Duration: time.Hour, Source: timeout.FromRPC}},
		"both declare, the RPC less":   {time.Second, time.Minute, timeout.Limit{Duration: time.Second, Source: timeout.FromRPC}},
		"both declare, the RPC more":   {time.Minute, time.Second, timeout.Limit{Duration: time.Minute, Source: timeout.FromRPC}},
		"the API declares the default": {0, timeout.Default, timeout.Limit{Duration: timeout.Default, Source: timeout.FromAPI}},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if got := timeout.Declared(test.rpc, test.api); got != test.want {
				t.Errorf("Declared = %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestAnErrorSaysWhoseLimitPassed(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	tests := map[string]struct {
		limit   timeout.Limit
		handler bool
		want    string
	}{
		"the default":  {timeout.Limit{Duration: 5 * time.Second}, false, "auth.check: no reply within 5s, the default timeout"},
		"the API's":    {timeout.Limit{Duration: 2 * time.Second, Source: timeout.FromAPI}, false, "auth.check: no reply within 2s, the API's timeout"},
		"the RPC's":    {timeout.Limit{Duration: 150 * time.Millisecond, Source: timeout.FromRPC}, false, "auth.check: no reply within 150ms, the RPC's timeout"},
		"the option's": {timeout.Limit{Duration: time.Nanosecond, Source: timeout.FromOption}, false, "auth.check: no reply within 1ns, the call's Timeout option"},
		"the caller's": {timeout.Limit{Duration: time.Second, Source: timeout.FromCaller}, false, "auth.check: no reply before the caller's own deadline (1s) passed"},
		"the caller's, in digits that a person reads": {
			timeout.Limit{Duration: 1234567891 * time.Nanosecond, Source: timeout.FromCaller},
			false,
			"auth.check: no reply before the caller's own deadline (1.235s) passed",
		},
		"the caller's, in milliseconds": {
			timeout.Limit{Duration: 12345678 * time.Nanosecond, Source: timeout.FromCaller},
			false,
			"auth.check: no reply before the caller's own deadline (12.346ms) passed",
		},
		"the caller's, in microseconds": {
			timeout.Limit{Duration: 12345 * time.Nanosecond, Source: timeout.FromCaller},
			false,
			"auth.check: no reply before the caller's own deadline (12.345µs) passed",
		},
		"the caller's, in nanoseconds": {
			timeout.Limit{Duration: 12 * time.Nanosecond, Source: timeout.FromCaller},
			false,
			"auth.check: no reply before the caller's own deadline (12ns) passed",
		},
		"the declared one, of the handler": {timeout.Limit{Duration: 2 * time.Second, Source: timeout.FromAPI}, true, "auth.check: the handler did not finish within 2s, the API's timeout"},
		"the caller's, of the handler":     {timeout.Limit{Source: timeout.FromCaller}, true, "auth.check: the handler did not finish before the deadline that the call came with"},
		"a limit of nobody":                {timeout.Limit{Duration: time.Second, Source: 99}, false, "auth.check: no reply within 1s, Source(99)"},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			err := error(&timeout.Error{RPC: "auth.check", Limit: test.limit, Handler: test.handler, Cause: cause})
			if err.Error() != test.want {
				t.Errorf("error = %q\nwant    %q", err, test.want)
			}
			if sent := status.Convert(err); sent.Code() != codes.DeadlineExceeded || sent.Message() != test.want {
				t.Errorf("status = %v", sent)
			}
			if !errors.Is(err, cause) {
				t.Error("the cause is lost")
			}
		})
	}
}

func TestGRPCTakesTheConfigurationOfEveryLimit(t *testing.T) {
	t.Parallel()
	for limit, want := range map[time.Duration]string{
		time.Nanosecond:             "0.000000001s",
		100 * time.Millisecond:      "0.100000000s",
		1500 * time.Millisecond:     "1.500000000s",
		time.Second + 1:             "1.000000001s",
		time.Minute - 1:             "59.999999999s",
		time.Second:                 "1s",
		timeout.Default:             "5s",
		time.Hour:                   "3600s",
		time.Duration(1<<63 - 1):    "9223372036.854775807s",
		100*time.Hour + time.Minute: "360060s",
	} {
		t.Run(limit.String(), func(t *testing.T) {
			t.Parallel()
			configs := timeout.MethodConfigs(map[string]timeout.Limit{"/auth.v1.AuthService/Check": {Duration: limit, Source: timeout.FromRPC}})
			if len(configs) != 1 || configs[0].Timeout != want {
				t.Fatalf("MethodConfigs = %+v, want one with %s", configs, want)
			}
			if names := configs[0].Name; len(names) != 1 || names[0] != (timeout.MethodName{Service: "auth.v1.AuthService", Method: "Check"}) {
				t.Errorf("names = %+v", names)
			}
			if err := takes(configs); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEveryMethodHasItsOwnConfiguration(t *testing.T) {
	t.Parallel()
	limits := map[string]timeout.Limit{
		"/auth.v1.AuthService/Check": {Duration: time.Second},
		"/auth.v1.AuthService/Reset": {Duration: time.Minute},
		"/shop.v1.ShopService/Check": {Duration: time.Hour},
	}
	configs := timeout.MethodConfigs(limits)
	if err := takes(configs); err != nil {
		t.Error(err)
	}
	got := make(map[string]string)
	for _, config := range configs {
		for _, name := range config.Name {
			got["/"+name.Service+"/"+name.Method] = config.Timeout
		}
	}
	want := map[string]string{"/auth.v1.AuthService/Check": "1s", "/auth.v1.AuthService/Reset": "60s", "/shop.v1.ShopService/Check": "3600s"}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(configs) != len(limits) {
		t.Errorf("MethodConfigs = %v, want %v", got, want)
	}
	if none := timeout.MethodConfigs(nil); none == nil || len(none) != 0 {
		t.Errorf("MethodConfigs of nothing = %#v, want an empty list, which is [] in JSON", none)
	}
	// Check that takes really refuses a bad config.
	configs[0].Timeout = "1m"
	if takes(configs) == nil {
		t.Error("grpc took a timeout that is no google.protobuf.Duration")
	}
}

// takes returns the error of grpc-go for a service config with these methods.
func takes(methods []timeout.MethodConfig) error {
	config, err := json.Marshal(map[string]any{"methodConfig": methods})
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("passthrough:///nowhere",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(string(config)))
	if err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	return conn.Close()
}

func TestBeginReadsTheOptionsOfACall(t *testing.T) {
	t.Parallel()
	declared := timeout.Limit{Duration: 2 * time.Second, Source: timeout.FromAPI}
	tests := map[string]struct {
		since  time.Duration // time since the call began, set by an option
		opts   []grpc.CallOption
		exact  bool
		longer bool
		ends   time.Duration // from now
	}{
		"no option":                       {ends: 2 * time.Second},
		"options of others alone":         {opts: []grpc.CallOption{grpc.WaitForReady(true), grpc.EmptyCallOption{}}, ends: 2 * time.Second},
		"a shorter limit":                 {opts: []grpc.CallOption{timeout.Option(time.Second)}, exact: true, ends: time.Second},
		"a longer limit":                  {opts: []grpc.CallOption{timeout.Option(time.Minute)}, exact: true, longer: true, ends: time.Minute},
		"the declared limit":              {opts: []grpc.CallOption{timeout.Option(2 * time.Second)}, exact: true, ends: 2 * time.Second},
		"two limits, of which the last":   {opts: []grpc.CallOption{timeout.Option(time.Minute), timeout.Option(time.Second)}, exact: true, ends: time.Second},
		"a limit among options of others": {opts: []grpc.CallOption{grpc.WaitForReady(true), timeout.Option(time.Second), grpc.EmptyCallOption{}}, exact: true, ends: time.Second},
		"a start in the past":             {since: 500 * time.Millisecond, exact: true, ends: 1500 * time.Millisecond},
		"a start so old that time is up":  {since: time.Minute, exact: true, ends: -58 * time.Second},
		"a start and a longer limit":      {since: time.Second, opts: []grpc.CallOption{timeout.Option(time.Minute)}, exact: true, longer: true, ends: 59 * time.Second},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				opts := test.opts
				if test.since > 0 {
					opts = append([]grpc.CallOption{timeout.Since(time.Now().Add(-test.since))}, opts...)
				}
				call, err := timeout.Begin(declared, opts)
				if err != nil {
					t.Fatal(err)
				}
				if call.Exact() != test.exact || call.Longer(declared) != test.longer {
					t.Errorf("Exact, Longer = %v, %v; want %v, %v", call.Exact(), call.Longer(declared), test.exact, test.longer)
				}
				ctx, cancel := call.Context(t.Context())
				defer cancel()
				if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) != test.ends {
					t.Errorf("the call ends in %v, want %v", time.Until(deadline), test.ends)
				}
			})
		})
	}
}

func TestACallNeverEndsLaterThanItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		call, err := timeout.Begin(timeout.Declared(0, 0), []grpc.CallOption{timeout.Option(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		own, cancelOwn := context.WithTimeout(t.Context(), time.Second)
		defer cancelOwn()
		ctx, cancel := call.Context(own)
		defer cancel()
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) != time.Second {
			t.Errorf("the call ends in %v, want its caller's 1s", time.Until(deadline))
		}
	})
}

func TestALimitThatIsNotMoreThanZeroIsRefused(t *testing.T) {
	t.Parallel()
	for _, limit := range []time.Duration{0, -1, -time.Hour} {
		t.Run(limit.String(), func(t *testing.T) {
			t.Parallel()
			for _, opts := range [][]grpc.CallOption{
				{timeout.Option(limit)},
				{timeout.Option(limit), timeout.Option(time.Second)}, // a later option does not fix the bad one
			} {
				_, err := timeout.Begin(timeout.Declared(0, 0), opts)
				want := fmt.Sprintf("option Timeout is %v: a timeout is more than zero; leave it out to have the declared one", limit)
				if sent := status.Convert(err); sent.Code() != codes.InvalidArgument || sent.Message() != want {
					t.Errorf("Begin = %v, want INVALID_ARGUMENT: %s", err, want)
				}
			}
		})
	}
}

func TestHasOptionFindsALimitAndNothingElse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		opts []grpc.CallOption
		want bool
	}{
		"none":              {nil, false},
		"options of others": {[]grpc.CallOption{grpc.WaitForReady(true)}, false},
		"a start":           {[]grpc.CallOption{timeout.Since(time.Unix(1, 0))}, false},
		"a limit":           {[]grpc.CallOption{grpc.WaitForReady(true), timeout.Option(time.Second)}, true},
		"a bad limit":       {[]grpc.CallOption{timeout.Option(0)}, true},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if got := timeout.HasOption(test.opts); got != test.want {
				t.Errorf("HasOption = %v, want %v", got, test.want)
			}
		})
	}
}

func TestExplainTellsOfALimitOnlyOnceItPassed(t *testing.T) {
	t.Parallel()
	late := status.Error(codes.DeadlineExceeded, "late")
	tests := map[string]struct {
		own    time.Duration // the caller's deadline; 0 is none
		after  time.Duration // when the error is returned
		err    error
		source timeout.Source
		same   bool // the error is returned unchanged
	}{
		"the declared limit passed":                       {after: 2 * time.Second, err: late, source: timeout.FromAPI},
		"the caller's earlier deadline passed":            {own: time.Second, after: time.Second, err: late, source: timeout.FromCaller},
		"the declared limit passed before the caller's":   {own: time.Minute, after: 2 * time.Second, err: late, source: timeout.FromAPI},
		"the server says so before any limit passed":      {after: 2*time.Second - 1, err: late, same: true},
		"the server says so before the caller's deadline": {own: time.Second, after: time.Second - 1, err: late, same: true},
		"another error, though the limit passed":          {after: time.Minute, err: status.Error(codes.Unavailable, "gone"), same: true},
		"no status at all, though the limit passed":       {after: time.Minute, err: errors.New("other"), same: true},
		"no error, though the limit passed":               {after: time.Minute, err: nil, same: true},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.own > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.own)
					defer cancel()
				}
				call, err := timeout.Begin(timeout.Declared(0, 2*time.Second), nil)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(test.after)
				got := call.Explain(ctx, "auth.check", test.err)
				if test.same {
					if got != test.err {
						t.Errorf("Explain = %v, want it left alone", got)
					}
					return
				}
				var timed *timeout.Error
				if !errors.As(got, &timed) || timed.Limit.Source != test.source || timed.RPC != "auth.check" || timed.Handler || !errors.Is(got, test.err) {
					t.Errorf("Explain = %+v, want an error of %v", got, test.source)
				}
			})
		})
	}
}

const (
	knownPath   = "/auth.v1.AuthService/Check"
	unknownPath = "/auth.v1.AuthService/Other"
)

// serve runs handler behind the interceptor. The API of its method has a timeout of 2 s.
func serve(ctx context.Context, path string, handler grpc.UnaryHandler) (any, error) {
	interceptor := timeout.UnaryServerInterceptor(map[string]timeout.Method{
		knownPath: {RPC: "auth.check", Limit: timeout.Limit{Duration: 2 * time.Second, Source: timeout.FromAPI}},
	})
	return interceptor(ctx, "request", &grpc.UnaryServerInfo{FullMethod: path}, handler)
}

func TestAHandlerRunsWithTheDeadlineOfItsCallElseTheDeclaredOne(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path string
		wire time.Duration // the deadline that the call arrived with; 0 is none
		same bool          // the handler has exactly the context of the call
		ends time.Duration // when the handler's context ends; 0 is never
	}{
		"an unknown method without a deadline":                    {path: unknownPath, same: true},
		"an unknown method with a deadline":                       {path: unknownPath, wire: time.Hour, same: true, ends: time.Hour},
		"a call with a deadline before the declared":              {path: knownPath, wire: time.Second, same: true, ends: time.Second},
		"a call with a deadline after the declared, which stands": {path: knownPath, wire: time.Hour, same: true, ends: time.Hour},
		"a call without a deadline":                               {path: knownPath, ends: 2 * time.Second},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				came := t.Context()
				if test.wire > 0 {
					var cancel context.CancelFunc
					came, cancel = context.WithTimeout(came, test.wire)
					defer cancel()
				}
				var after func() error // Err of the handler's context, for use after the handler
				reply, err := serve(came, test.path, func(ctx context.Context, req any) (any, error) {
					after = ctx.Err
					if (ctx == came) != test.same {
						t.Errorf("the handler has the context that the call came with: %v, want %v", ctx == came, test.same)
					}
					deadline, ok := ctx.Deadline()
					if ok != (test.ends > 0) || ok && time.Until(deadline) != test.ends {
						t.Errorf("the handler's deadline is in %v (%v), want %v", time.Until(deadline), ok, test.ends)
					}
					if ctx.Err() != nil {
						t.Errorf("the handler began with %v", ctx.Err())
					}
					return fmt.Sprintf("reply to %v", req), nil
				})
				if reply != "reply to request" || err != nil {
					t.Errorf("reply, err = %v, %v", reply, err)
				}
				if !test.same && after() == nil {
					t.Error("the handler's own context outlives it")
				}
			})
		})
	}
}

func TestAHandlersErrorIsOneOfTimeOnlyWhenItsOwnDeadlinePassed(t *testing.T) {
	t.Parallel()
	late, other := status.Error(codes.DeadlineExceeded, "of another call"), status.Error(codes.NotFound, "no such user")
	const declared, wire = 2 * time.Second, time.Second // the call's deadline is earlier
	tests := map[string]struct {
		path   string
		wire   bool          // the call arrived with a deadline
		runs   time.Duration // how long the handler runs
		err    error         // what it returns
		source timeout.Source
		same   bool // the error is returned unchanged
	}{
		"the declared limit passed, says the context":              {path: knownPath, runs: declared, err: context.DeadlineExceeded, source: timeout.FromAPI},
		"the declared limit passed, says a wrapped error":          {path: knownPath, runs: declared, err: fmt.Errorf("query: %w", context.DeadlineExceeded), source: timeout.FromAPI},
		"the declared limit passed, says a status":                 {path: knownPath, runs: declared, err: late, source: timeout.FromAPI},
		"the call's deadline passed, says the context":             {path: knownPath, wire: true, runs: wire, err: context.DeadlineExceeded, source: timeout.FromCaller},
		"the call's deadline passed, says a status":                {path: knownPath, wire: true, runs: wire, err: late, source: timeout.FromCaller},
		"something else took too long, within the declared limit":  {path: knownPath, runs: declared - 1, err: context.DeadlineExceeded, same: true},
		"another call took too long, within the declared limit":    {path: knownPath, runs: declared - 1, err: late, same: true},
		"something else took too long, before the call's deadline": {path: knownPath, wire: true, runs: wire - 1, err: context.DeadlineExceeded, same: true},
		"another call took too long, before the call's deadline":   {path: knownPath, wire: true, runs: wire - 1, err: late, same: true},
		"another error after the declared limit":                   {path: knownPath, runs: declared, err: other, same: true},
		"another error after the call's deadline":                  {path: knownPath, wire: true, runs: wire, err: other, same: true},
		"a cancellation after the declared limit":                  {path: knownPath, runs: declared, err: context.Canceled, same: true},
		"an unknown method's after its call's deadline":            {path: unknownPath, wire: true, runs: wire, err: context.DeadlineExceeded, same: true},
		"no error after the declared limit":                        {path: knownPath, runs: time.Minute, same: true},
		"no error after the call's deadline":                       {path: knownPath, wire: true, runs: time.Minute, same: true},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.wire {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, wire)
					defer cancel()
				}
				reply, err := serve(ctx, test.path, func(context.Context, any) (any, error) {
					time.Sleep(test.runs)
					return "reply", test.err
				})
				if reply != "reply" {
					t.Errorf("reply = %v, want the handler's", reply)
				}
				if test.same {
					if err != test.err {
						t.Errorf("error = %v, want the handler's %v", err, test.err)
					}
					return
				}
				var timed *timeout.Error
				if !errors.As(err, &timed) || timed.Limit.Source != test.source || timed.RPC != "auth.check" || !timed.Handler || !errors.Is(err, test.err) {
					t.Errorf("error = %+v, want one of %v", err, test.source)
				}
				if status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("code = %v", status.Code(err))
				}
			})
		})
	}
}
