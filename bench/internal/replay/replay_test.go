package replay_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/bench/internal/replay"
	"github.com/onecall-dev/onecall/internal/grpctest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counting is a service on plain grpc-go that stores the requests it receives.
type counting struct {
	testv1.UnimplementedEchoServiceServer

	mu    sync.Mutex
	texts []string
	heads []metadata.MD
}

func (c *counting) Echo(ctx context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	head, _ := metadata.FromIncomingContext(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.texts, c.heads = append(c.texts, req.GetText()), append(c.heads, head)
	if req.GetText() == "bad" {
		return nil, status.Error(codes.NotFound, "not here")
	}
	return &testv1.EchoResponse{Text: req.GetText()}, nil
}

func serve(t *testing.T) (*counting, string) {
	t.Helper()
	service, server := &counting{}, grpc.NewServer()
	testv1.RegisterEchoServiceServer(server, service)
	return service, grpctest.Loopback(t, server)
}

// tapped returns a client with a tap on its connections.
func tapped(t *testing.T, address string, observe func(replay.Call)) testv1.EchoServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			return replay.Tap(conn, func(call replay.Call, err error) {
				if err != nil {
					t.Error(err)
					return
				}
				observe(call)
			}), nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return testv1.NewEchoServiceClient(conn)
}

func newSender(t *testing.T) *replay.Sender {
	t.Helper()
	sender := replay.NewSender()
	t.Cleanup(sender.Close)
	return sender
}

func TestACopyIsTheCallThatWasSent(t *testing.T) {
	t.Parallel()
	service, address := serve(t)
	var calls []replay.Call
	client, sender := tapped(t, address, func(call replay.Call) { calls = append(calls, call) }), newSender(t)
	const large = 70 << 10 // more than a frame, a window and a write
	texts := []string{"one", strings.Repeat("a", large), "bad"}
	for i, text := range texts {
		ctx := metadata.AppendToOutgoingContext(t.Context(),
			"onecall-call", fmt.Sprintf("the.identity.%d", i), "bin-bin", "\x00\xff", "long", strings.Repeat("b", 20<<10), "other", "a", "other", "b")
		_, _ = client.Echo(ctx, &testv1.EchoRequest{Text: text})
	}
	if len(calls) != len(texts) {
		t.Fatalf("the tap saw %d calls, want %d", len(calls), len(texts))
	}
	for i, call := range calls {
		if call.Path != testv1.EchoService_Echo_FullMethodName || call.Identity() != fmt.Sprintf("the.identity.%d", i) {
			t.Errorf("call = %s %s", call.Path, call.Identity())
		}
		result := sender.Send(t.Context(), address, call)
		if want := map[bool]codes.Code{true: codes.NotFound}[texts[i] == "bad"]; result.Err != nil || result.Code != want {
			t.Errorf("result = %+v, want %v", result, want)
		}
	}
	service.mu.Lock()
	defer service.mu.Unlock()
	if len(service.texts) != 2*len(texts) || !slices.Equal(service.texts[:3], service.texts[3:]) {
		t.Errorf("the server ran %d calls, not each twice", len(service.texts))
	}
	for i := range texts {
		if one, two := service.heads[i].String(), service.heads[i+3].String(); one != two {
			t.Errorf("the copy's headers differ:\n%.300s\n%.300s", one, two)
		}
	}
}

func TestAPlayerSendsCopiesToTheirAddressesAfterTheirDelays(t *testing.T) {
	t.Parallel()
	first, one := serve(t)
	second, two := serve(t)
	player := replay.NewPlayer(newSender(t), func(call replay.Call) []replay.Copy {
		if call.Identity() == "" {
			return nil
		}
		return []replay.Copy{{Address: one}, {Address: two, After: 30 * time.Millisecond}}
	})
	defer player.Close()
	client := tapped(t, one, player.See)
	before := time.Now()
	if _, err := client.Echo(metadata.AppendToOutgoingContext(t.Context(), "onecall-call", "a"), &testv1.EchoRequest{Text: "marked"}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Echo(t.Context(), &testv1.EchoRequest{Text: "plain"}); err != nil {
		t.Fatal(err)
	}
	if err := player.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(before); took < 30*time.Millisecond {
		t.Errorf("the later copy was answered after %v", took)
	}
	played := player.Played()
	if len(played) != 2 {
		t.Fatalf("played = %+v", played)
	}
	for _, each := range played {
		if each.Result.Err != nil || each.Result.Code != codes.OK || each.Call.Identity() != "a" {
			t.Errorf("played = %+v", each)
		}
	}
	slices.Sort(first.texts)
	if !slices.Equal(first.texts, []string{"marked", "marked", "plain"}) || !slices.Equal(second.texts, []string{"marked"}) {
		t.Errorf("the servers ran %v and %v", first.texts, second.texts)
	}
}

func TestAClosedPlayerGivesUp(t *testing.T) {
	t.Parallel()
	service, address := serve(t)
	player := replay.NewPlayer(newSender(t), func(replay.Call) []replay.Copy {
		return []replay.Copy{{Address: address, After: time.Hour}}
	})
	player.See(replay.Call{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := player.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait = %v", err)
	}
	player.Close()
	player.See(replay.Call{})
	player.Close()
	if len(player.Played()) != 0 || len(service.texts) != 0 {
		t.Errorf("played %v", player.Played())
	}
}

func TestAnAddressWithoutAServerIsAnError(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if result := newSender(t).Send(t.Context(), listener.Addr().String(), replay.Call{Path: "/a/b"}); result.Err == nil || result.Code != codes.Unavailable {
		t.Errorf("result = %+v", result)
	}
}

// written is a connection to nowhere.
type written struct {
	net.Conn

	bytes int
}

func (w *written) Write(data []byte) (int, error) {
	w.bytes += len(data)
	return len(data), nil
}

func TestATapReportsNonsenseOnceAndStillWritesIt(t *testing.T) {
	t.Parallel()
	below, faults := &written{}, 0
	tap := replay.Tap(below, func(_ replay.Call, err error) {
		if err == nil {
			t.Error("the tap saw a call")
		}
		faults++
	})
	// A frame of headers on stream 0, which has none.
	nonsense := http2.ClientPreface + "\x00\x00\x00\x01\x04\x00\x00\x00\x00"
	for i := range nonsense { // a byte at a time
		if _, err := tap.Write([]byte{nonsense[i]}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tap.Write([]byte(nonsense)); err != nil || below.bytes != 2*len(nonsense) || faults != 1 {
		t.Errorf("%d bytes passed, %d faults, %v", below.bytes, faults, err)
	}
}
