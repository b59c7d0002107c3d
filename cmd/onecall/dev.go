package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
)

func (p *program) dev() *cobra.Command {
	config := embed.Config{Listen: "127.0.0.1:2379"}
	command := &cobra.Command{
		Use:   "dev [-- COMMAND [ARGUMENT]...]",
		Short: "Run an etcd for development, and list instances as they come and go",
		Long: `Run an etcd for development in this process until it is interrupted. It prints the line to
set for services and callers, and then the changes of all instances, as the command instances
does with --watch. Without --dir its data is removed at the end.

With a COMMAND it runs that instead, with the variable set, and ends with it. The exit code
is 1 if the command fails.`,
		Example: `  onecall dev` + "\n" + `  onecall dev --listen 127.0.0.1:0 --dir ./etcd` + "\n" + `  onecall dev -- make run`,
		RunE:    func(cmd *cobra.Command, args []string) error { return p.runDev(cmd.Context(), config, args) },
	}
	command.Flags().StringVar(&config.Listen, "listen", config.Listen, "address for clients; port 0 is any free port")
	command.Flags().StringVar(&config.Dir, "dir", "", "folder of the data, which stays (default: a temporary folder)")
	return command
}

func (p *program) runDev(ctx context.Context, config embed.Config, command []string) (err error) {
	server, err := embed.Start(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		if closed := server.Close(); err == nil {
			err = closed
		}
	}()
	endpoints := server.Endpoints()
	if len(command) > 0 {
		return p.runWithin(ctx, endpoints, command)
	}
	fmt.Fprintf(p.errs, "etcd is ready. Set this for services and callers, and end it with Ctrl-C:\n\n  export ONECALL_ETCD_ENDPOINTS=%s\n\n", strings.Join(endpoints, ","))
	registry, err := etcd.Open(etcd.Config{Endpoints: endpoints, Namespace: cmp.Or(p.settings.Namespace, os.Getenv("ONECALL_ETCD_NAMESPACE")), Logger: p.logger()})
	if err != nil {
		return usage(asFlag(err))
	}
	defer registry.Close()
	return p.watchInstances(ctx, registry, "")
}
