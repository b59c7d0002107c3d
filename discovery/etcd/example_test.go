package etcd_test

import (
	"fmt"
	"os"

	"github.com/onecall-dev/onecall/discovery/etcd"
)

// A registry on three members, with a client certificate and a user.
func ExampleOpen() {
	registry, err := etcd.Open(etcd.Config{
		Endpoints: []string{"https://etcd-0:2379", "https://etcd-1:2379", "https://etcd-2:2379"},
		CAFile:    "/etc/onecall/ca.pem",
		CertFile:  "/etc/onecall/cert.pem", KeyFile: "/etc/onecall/key.pem",
		Username: "auth", Password: os.Getenv("ETCD_PASSWORD"),
	})
	if err == nil {
		defer registry.Close()
	}
	fmt.Println(err) // there are no such files here: an error before anything is done
	// Output: etcd: Config.CertFile: and KeyFile can't be used: open /etc/onecall/cert.pem: no such file or directory: set both, to a certificate and its key in PEM
}
