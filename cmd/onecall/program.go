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

	format  string
	verbose bool
	etcd    etcd.Config
	tls     framework.TLSFiles
	plain   bool
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
read, such as ONECALL_ETCD_ENDPOINTS.`,
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
	flags.StringSliceVar(&p.etcd.Endpoints, "etcd", nil, "client URLs of etcd, separated by commas (default "+defaultEndpoint+")")
	flags.StringVar(&p.etcd.Namespace, "namespace", "", "first part of the keys in etcd (default "+etcd.DefaultNamespace+")")
	flags.StringVar(&p.etcd.CAFile, "etcd-ca", "", "file of the certificates that sign etcd's")
	flags.StringVar(&p.etcd.CertFile, "etcd-cert", "", "file of the certificate for etcd")
	flags.StringVar(&p.etcd.KeyFile, "etcd-key", "", "file of its key")
	flags.StringVar(&p.etcd.Username, "etcd-user", "", "user in etcd; the password is in ONECALL_ETCD_PASSWORD or a file, ONECALL_ETCD_PASSWORD_FILE")
	flags.StringVar(&p.tls.CA, "tls-ca", "", "file of the certificates that sign those of instances")
	flags.StringVar(&p.tls.Cert, "tls-cert", "", "file of the certificate for instances")
	flags.StringVar(&p.tls.Key, "tls-key", "", "file of its key")
	flags.BoolVar(&p.plain, "insecure", false, "call instances on other machines without TLS")
	root.AddCommand(p.apis(), p.instances(), p.describe(), p.call(), p.settle(), p.ping(), p.dev(),
		p.newProject(), p.generate(), p.protos(), p.schema())
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

// registry opens the registry of the flags and the environment.
func (p *program) registry() (*etcd.Registry, error) {
	config, err := etcd.FromEnv()
	if err != nil {
		return nil, usage(err)
	}
	if len(p.etcd.Endpoints) > 0 {
		config.Endpoints = p.etcd.Endpoints
	}
	if len(config.Endpoints) == 0 {
		config.Endpoints = []string{defaultEndpoint}
	}
	for _, each := range []struct {
		flag string
		into *string
	}{
		{p.etcd.Namespace, &config.Namespace},
		{p.etcd.CAFile, &config.CAFile},
		{p.etcd.CertFile, &config.CertFile},
		{p.etcd.KeyFile, &config.KeyFile},
		{p.etcd.Username, &config.Username},
	} {
		if each.flag != "" {
			*each.into = each.flag
		}
	}
	config.Logger = p.logger()
	opened, err := etcd.Open(config)
	if err != nil {
		return nil, usage(err)
	}
	return opened, nil
}

// busOptions returns the options of a bus by the flags and the environment.
func (p *program) busOptions(options ...framework.BusOption) []framework.BusOption {
	options = append(options, framework.FromEnv(), framework.Logger(p.logger()))
	if p.tls != (framework.TLSFiles{}) {
		options = append(options, framework.TLS(p.tls))
	}
	if p.plain {
		options = append(options, framework.Insecure())
	}
	return options
}

// withBus calls use with a bus on the registry of the flags and the environment.
func (p *program) withBus(use func(*etcd.Registry, *framework.Bus) error, options ...framework.BusOption) error {
	registry, err := p.registry()
	if err != nil {
		return err
	}
	defer registry.Close()
	bus, err := framework.NewBus(registry, p.busOptions(options...)...)
	if err != nil {
		return usage(err)
	}
	err = use(registry, bus)
	if closed := bus.Close(); err == nil && closed != nil {
		err = fmt.Errorf("closing the bus: %w", closed)
	}
	return err
}
