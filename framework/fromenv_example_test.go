package framework_test

import (
	"context"
	"fmt"
	"os"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
)

// serveFromEnv serves as the environment says.
func serveFromEnv(ctx context.Context) error {
	config, err := etcd.FromEnv()
	if err != nil {
		return err
	}
	registry, err := etcd.Open(config)
	if err != nil {
		return err
	}
	defer registry.Close()
	return framework.Serve(ctx, registry, registerAuth, framework.FromEnv())
}

// This shows the errors of wrong variables.
func ExampleFromEnv() {
	variables := map[string]string{
		"ONECALL_ETCD_ENDPOINTS": "https://etcd-0:2379,https://etcd-1:2379", "ONECALL_LISTEN": "8443", "ONECALL_SHUTDOWN_TIMOUT": "20s",
	}
	for name, value := range variables {
		if err := os.Setenv(name, value); err != nil {
			fmt.Println(err)
		}
	}
	defer func() {
		for name := range variables {
			_ = os.Unsetenv(name)
		}
	}()
	fmt.Println(serveFromEnv(context.Background()))
	_ = os.Unsetenv("ONECALL_SHUTDOWN_TIMOUT")
	fmt.Println(serveFromEnv(context.Background()))
	// Output:
	// onecall: service: option FromEnv: variable ONECALL_SHUTDOWN_TIMOUT: is not known: remove it, or take another prefix: did you mean ONECALL_SHUTDOWN_TIMEOUT?
	// onecall: service: option FromEnv: variable ONECALL_LISTEN: option ListenOn: "8443" is not "host:port", such as ":8443" or "127.0.0.1:0": address 8443: missing port in address
}
