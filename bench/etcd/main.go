// Etcd runs an etcd in memory for a benchmark, which starts it with package measure. It is a
// program of its own, so that the programs that are measured are as those of users, which do
// not have etcd's server in them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/onecall-dev/onecall/bench/internal/measure"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
)

func main() {
	listen := flag.String("listen", "", "where clients connect, host:port; empty means a free port of this machine")
	flag.Parse()
	err := measure.Serve(context.Background(), func(ctx context.Context, ready func(string)) error {
		server, err := embed.Start(ctx, embed.Config{Listen: *listen})
		if err != nil {
			return err
		}
		ready(server.Endpoints()[0])
		<-ctx.Done()
		return server.Close()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}
