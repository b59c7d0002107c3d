package framework_test

import (
	"testing"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/testlog"
)

func TestAServiceConfigWithoutEffectIsLogged(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options []grpc.DialOption
		lines   int
	}{
		"no options":              {nil, 0},
		"a service config":        {[]grpc.DialOption{grpc.WithDefaultServiceConfig(`{"methodConfig":[]}`)}, 1},
		"options of another kind": {[]grpc.DialOption{grpc.WithUserAgent("a program")}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := new(testlog.Log)
			bus, err := framework.NewBus(memory.New(), framework.Logger(log.Logger()), framework.DialOptions(test.options...))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = bus.Close() })
			if lines := log.Count("WithDefaultServiceConfig in option DialOptions has no effect"); lines != test.lines {
				t.Errorf("%d lines say that it has no effect, want %d:\n%s", lines, test.lines, log)
			}
		})
	}
}
