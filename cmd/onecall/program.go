package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
)

// program is one run of the command.
type program struct {
	out, errs io.Writer
	in        io.Reader
	// begun says that the command line is right and its command runs.
	begun bool
	// widths are those of the columns of a stream of records.
	widths []int

	format      string
	verbose     bool
	contextName string
	settings    settings // those of the flags
}

// command returns the command with all its commands.
func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "onecall",
		Short: "Show and call the APIs of a registry in etcd",
		Long: `onecall shows and calls the APIs of a registry in etcd.

Data is on standard output, all else on standard error. The exit code is 0 when all is
done, 1 after a failure, and 2 when the command line is wrong. After a call that failed it is
10 if the call did not run, 11 if it ran, and 12 if that is not known.

Flags have precedence over the variables of the environment that services and callers
read, such as ONECALL_ETCD_ENDPOINTS, and these over a context: see "onecall context".`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if err := checkFormat(p.format); err != nil {
				return err
			}
			p.begun = true
			return nil
		},
	}
	root.SetOut(p.out)
	root.SetErr(p.errs)
	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.StringVarP(&p.format, "output", "o", "table", "format of the data: table, plain (values between tabs), json, jsonl or yaml")
	flags.BoolVarP(&p.verbose, "verbose", "v", false, "log what the command does on standard error")
	flags.StringVar(&p.contextName, "context", "", "context with settings for those that are not set here (default: the one in use)")
	flags.StringSliceVar(&p.settings.Etcd, "etcd", nil, "client URLs of etcd, separated by commas (default "+defaultEndpoint+")")
	for _, each := range textSettings {
		flags.StringVar(each.in(&p.settings), each.flag, "", each.help)
	}
	flags.BoolVar(&p.settings.Insecure, "insecure", false, "call instances on other machines without TLS")
	// The flags exist, so there is no error.
	_ = root.RegisterFlagCompletionFunc("context", completeContexts)
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(p.apis(), p.instances(), p.describe(), p.call(), p.bench(), p.ping(), p.settle(), p.doctor(), p.contextCommands(), p.dev(),
		p.newProject(), p.generate(), p.protos(), p.schema(), p.man())
	root.SetHelpCommand(p.help())
	return root
}

const defaultEndpoint = "http://127.0.0.1:2379"

// logger returns the logger of the registry and the bus.
func (p *program) logger() *slog.Logger {
	if !p.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(p.errs, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// registry opens the registry of the flags, the environment and the context.
func (p *program) registry() (*etcd.Registry, error) {
	config, err := p.etcdConfig()
	if err != nil {
		return nil, usage(err)
	}
	opened, err := etcd.Open(config)
	if err != nil {
		return nil, usage(asFlag(err))
	}
	return opened, nil
}

// withBus calls use with a bus on the registry.
func (p *program) withBus(use func(*etcd.Registry, *framework.Bus) error, options ...framework.BusOption) error {
	registry, err := p.registry()
	if err != nil {
		return err
	}
	defer registry.Close()
	options, err = p.busOptions(options...)
	if err != nil {
		return usage(err)
	}
	bus, err := framework.NewBus(registry, options...)
	if err != nil {
		return usage(err)
	}
	err = use(registry, bus)
	if closed := bus.Close(); err == nil && closed != nil {
		err = fmt.Errorf("closing the bus: %w", closed)
	}
	return err
}
