package framework_test

import (
	"context"
	"log"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
)

// This serves as the environment says, such as with ONECALL_ETCD_ENDPOINTS set to
// "https://etcd-0:2379,https://etcd-1:2379" and ONECALL_LISTEN to ":8443".
func ExampleFromEnv() {
	ctx := context.Background()
	config, err := etcd.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	registry, err := etcd.Open(config)
	if err != nil {
		log.Fatal(err)
	}
	defer registry.Close()
	err = framework.Serve(ctx, registry, registerAuth, framework.FromEnv())
	if err != nil {
		log.Fatal(err)
	}
}
