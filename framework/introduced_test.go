package framework_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

func TestEachReplyOfTheHealthServiceNamesTheInstance(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{})
	_, instance := direct(t, registry)
	client := grpc_health_v1.NewHealthClient(dialled(t, instance.Address))
	want := instance.Incarnation.String()
	var check metadata.MD
	if _, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&check)); err != nil {
		t.Fatal(err)
	}
	watch, err := client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	watched, err := watch.Header()
	if err != nil {
		t.Fatal(err)
	}
	for method, header := range map[string]metadata.MD{"Check": check, "Watch": watched} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			if got := header.Get(atmostonce.IncarnationKey); len(got) != 1 || got[0] != want {
				t.Errorf("the header names %q, want %s", got, want)
			}
		})
	}
}
