package frameworktest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// fakeAll fakes an RPC of each shape.
func fakeAll(kit *frameworktest.Kit) {
	client := testv1.NewEchoServiceClient(kit)
	frameworktest.Fake(kit, client.Echo, func(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		return &testv1.EchoResponse{Text: "a"}, nil
	})
	frameworktest.Fake(kit, client.EchoSoon, func(context.Context, *testv1.EchoSoonRequest) (*testv1.EchoSoonResponse, error) {
		return &testv1.EchoSoonResponse{Text: "a"}, nil
	})
	frameworktest.FakeServerStream(kit, client.Watch, func(req *testv1.WatchRequest, stream grpc.ServerStreamingServer[testv1.WatchResponse]) error {
		return new(echo).Watch(req, stream)
	})
	frameworktest.FakeClientStream(kit, client.Collect, func(stream grpc.ClientStreamingServer[testv1.CollectRequest, testv1.CollectResponse]) error {
		return new(echo).Collect(stream)
	})
	frameworktest.FakeBidiStream(kit, client.Chat, func(stream grpc.BidiStreamingServer[testv1.ChatRequest, testv1.ChatResponse]) error {
		return new(echo).Chat(stream)
	})
}

func TestFakesOfEachShapeAnswer(t *testing.T) {
	t.Parallel()
	for name, register := range map[string]func(grpc.ServiceRegistrar){"instead of a service": nil, "over a service": func(apis grpc.ServiceRegistrar) {
		testv1.RegisterEchoServiceServer(apis, testv1.UnimplementedEchoServiceServer{})
	}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachShape(t, func(t *testing.T, shape string, call shapeCall) {
				t.Helper()
				kit := frameworktest.New(t, register)
				fakeAll(kit)
				got, err := call(t.Context(), testv1.NewEchoServiceClient(kit))
				same(t, shape, got, err)
				if recorded := kit.Recorded("/onecall.test.v1.EchoService/" + shape); len(recorded) != 1 || len(recorded[0].Replies) == 0 || !recorded[0].Ended {
					t.Errorf("recorded %+v, want one call with its replies", recorded)
				}
			})
		})
	}
}

func TestAFakeIsSeenByItsOwnKitAlone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"one", "two", "three"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			kit := frameworktest.New(t, nil)
			client := testv1.NewEchoServiceClient(kit)
			for range 2 { // the second replaces the first
				frameworktest.Fake(kit, client.EchoSoon, func(context.Context, *testv1.EchoSoonRequest) (*testv1.EchoSoonResponse, error) {
					return &testv1.EchoSoonResponse{Text: text}, nil
				})
			}
			for range 20 {
				if reply, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil || reply.GetText() != text {
					t.Errorf("EchoSoon = %v, %v, want %q", reply, err, text)
				}
			}
		})
	}
}

func TestAFakeByName(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, nil)
	kit.FakeByName("auth.check_password", func(_ context.Context, parameters framework.Args) (framework.Args, error) {
		if parameters["username"] == "nobody" {
			return nil, status.Error(codes.NotFound, "no such user")
		}
		return framework.Args{"valid": parameters["password"] == "secret"}, nil
	})
	reply, err := kit.Bus().Call(t.Context(), "auth.check_password", framework.Args{"username": "adam", "password": "secret"})
	if err != nil || reply.Map()["valid"] != true {
		t.Errorf("check_password = %v, %v", reply, err)
	}
	if _, err := kit.Bus().Call(t.Context(), "auth.check_password", framework.Args{"username": "nobody", "password": "x"}); status.Code(err) != codes.NotFound || framework.OutcomeOf(err) != framework.Executed {
		t.Errorf("check_password = %v, want the error of the fake", err)
	}
	for want, bad := range map[string]func(tb testing.TB){
		"is a stream": func(tb testing.TB) {
			tb.Helper()
			frameworktest.New(tb, nil).FakeByName("test.echo.watch", func(context.Context, framework.Args) (framework.Args, error) { return framework.Args{}, nil })
		},
		"the reply of the fake of auth.check_password": func(tb testing.TB) {
			tb.Helper()
			kit := frameworktest.New(tb, nil)
			kit.FakeByName("auth.check_password", func(context.Context, framework.Args) (framework.Args, error) {
				return framework.Args{"valid": "yes"}, nil
			})
			_, _ = kit.Bus().Call(tb.Context(), "auth.check_password", framework.Args{"username": "a", "password": "b"})
		},
	} {
		if got := failed(t, bad); !strings.Contains(got, want) {
			t.Errorf("the test failed with %q, want %q", got, want)
		}
	}
}

func TestACallWithoutAFakeFailsTheTestWithTheLinesToWrite(t *testing.T) {
	t.Parallel()
	for shape, want := range map[string]string{
		"Echo":    "frameworktest.Fake(kit, testv1.NewEchoServiceClient(kit).Echo,\n\t\tfunc(ctx context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) { … })",
		"Watch":   "frameworktest.FakeServerStream(kit, testv1.NewEchoServiceClient(kit).Watch,\n\t\tfunc(req *testv1.WatchRequest, stream grpc.ServerStreamingServer[testv1.WatchResponse]) error { … })",
		"Collect": "frameworktest.FakeClientStream(kit, testv1.NewEchoServiceClient(kit).Collect,\n\t\tfunc(stream grpc.ClientStreamingServer[testv1.CollectRequest, testv1.CollectResponse]) error { … })",
		"Chat":    "frameworktest.FakeBidiStream(kit, testv1.NewEchoServiceClient(kit).Chat,\n\t\tfunc(stream grpc.BidiStreamingServer[testv1.ChatRequest, testv1.ChatResponse]) error { … })",
	} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			for name, fakes := range map[string]func(kit *frameworktest.Kit){
				"of an API with another fake": func(kit *frameworktest.Kit) {
					frameworktest.Fake(kit, testv1.NewEchoServiceClient(kit).EchoSoon, func(context.Context, *testv1.EchoSoonRequest) (*testv1.EchoSoonResponse, error) {
						return new(testv1.EchoSoonResponse), nil
					})
				},
				"of an API without a fake": func(*frameworktest.Kit) {},
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					var err error
					got := failed(t, func(tb testing.TB) {
						tb.Helper()
						kit := frameworktest.New(tb, nil)
						fakes(kit)
						_, err = shapes[shape](tb.Context(), testv1.NewEchoServiceClient(kit.Bus()))
					})
					if !strings.Contains(got, want) || status.Code(err) != codes.Unimplemented {
						t.Errorf("the test failed with\n%s\nwant\n%s\nand the call with %v", got, want, err)
					}
				})
			}
		})
	}
}

// TestACallOfAnUnknownAPIIsNoMistakeOfAKitWithAService calls an API that is not served.
func TestACallOfAnUnknownAPIIsNoMistakeOfAKitWithAService(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, new(echo).register)
	if _, err := authv1.NewAuthServiceClient(kit).GetUser(t.Context(), &authv1.GetUserRequest{Username: "adam"}); status.Code(err) != codes.Unimplemented {
		t.Errorf("GetUser = %v", err)
	}
}

func TestRecordedCallsHaveWhatTheHandlerSaw(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, new(echo).register, frameworktest.ServeOptions(framework.Authenticate(func(ctx context.Context) (context.Context, error) {
		return framework.WithPrincipal(ctx, strings.Join(metadata.ValueFromIncomingContext(ctx, "caller"), "")), nil
	})))
	client := testv1.NewEchoServiceClient(kit)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "caller", "shop")
	began := time.Now()
	for _, text := range []string{"one", "two"} {
		if _, err := client.EchoSoon(ctx, &testv1.EchoSoonRequest{Text: text}, framework.Timeout(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	calls := frameworktest.Calls(kit, client.EchoSoon)
	if len(calls) != 2 || calls[0].Request.GetText() != "one" || calls[1].Request.GetText() != "two" || calls[1].Reply.GetText() != "two" {
		t.Fatalf("recorded %+v", calls)
	}
	call := calls[0]
	if call.RPC != "test.echo.echo_soon" || call.Method != testv1.EchoService_EchoSoon_FullMethodName || call.Instance != kit.Instances()[0] || call.Principal != "shop" || !call.Ended || call.Err != nil {
		t.Errorf("recorded %+v", call.Recorded)
	}
	if got := call.Metadata.Get("caller"); len(got) != 1 || got[0] != "shop" {
		t.Errorf("the metadata is %v", call.Metadata)
	}
	for key := range call.Metadata {
		if strings.HasPrefix(key, "onecall-") || strings.HasPrefix(key, "frameworktest-") {
			t.Errorf("the metadata has %s", key)
		}
	}
	if left := call.Deadline.Sub(began); left < 50*time.Minute || left > 70*time.Minute {
		t.Errorf("the deadline is in %v", left)
	}
	if other := frameworktest.Calls(kit, client.Echo); len(other) != 0 {
		t.Errorf("recorded %+v of another RPC", other)
	}
}
