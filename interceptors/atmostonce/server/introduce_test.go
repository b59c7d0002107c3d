package server_test

import (
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestTheHealthServiceSaysWhichInstanceAnswers(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{RequireIdentity: true}, &echo{}, inner{})
	client := grpc_health_v1.NewHealthClient(f.conn)
	want := f.incarnation.String()

	watch, err := client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if header, err := watch.Header(); err != nil || len(header[atmostonce.IncarnationKey]) != 1 || header[atmostonce.IncarnationKey][0] != want {
		t.Errorf("the header of Watch is %v (%v), want %s", header, err, want)
	}
	var header metadata.MD
	if _, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	if got := header[atmostonce.IncarnationKey]; len(got) != 1 || got[0] != want {
		t.Errorf("the header of Check is %v, want %s", header, want)
	}
}

func TestACallOfAnUnknownMethodIsRefused(t *testing.T) {
	t.Parallel()
	incarnation := discovery.NewIncarnation()
	guard, err := server.New(server.Config{Incarnation: incarnation})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(guard.Close)
	f := serve(t, server.Config{Incarnation: incarnation}, &echo{}, inner{}, grpc.UnknownServiceHandler(guard.UnknownMethod))
	for name, path := range map[string]string{
		"a service": "/onecall.test.v9.EchoService/Echo",
		"a method":  "/onecall.test.v1.EchoService/OfTheNextRelease",
	} {
		t.Run(name, func(t *testing.T) {
			identity := atmostonce.Identity{Incarnation: incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1}
			var trailer metadata.MD
			ctx := metadata.AppendToOutgoingContext(t.Context(), atmostonce.CallKey, identity.Value())
			err := f.conn.Invoke(ctx, path, &testv1.EchoRequest{}, &testv1.EchoResponse{}, grpc.Trailer(&trailer))
			if status.Code(err) != codes.Unimplemented {
				t.Errorf("the error is %v, want UNIMPLEMENTED", err)
			}
			says, from := trailer[atmostonce.OutcomeKey], trailer[atmostonce.IncarnationKey]
			if len(says) != 1 || says[0] != atmostonce.OutcomeRefused || len(from) != 1 || from[0] != incarnation.String() {
				t.Errorf("the trailer is %v, want one outcome %q from %s", trailer, atmostonce.OutcomeRefused, incarnation)
			}
		})
	}
}
