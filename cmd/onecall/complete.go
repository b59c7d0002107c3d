package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
)

// completeLimit is how long a shell waits for the names of a completion.
const completeLimit = 300 * time.Millisecond

// completion has what the registry knows for one completion. Without an answer in time
// there is nothing to complete.
func (p *program) completion(ctx context.Context, use func(ctx context.Context, apis []string, bus *framework.Bus) []string) []string {
	ctx, cancel := context.WithTimeout(ctx, completeLimit)
	defer cancel()
	var found []string
	err := p.withBus(func(registry *etcd.Registry, bus *framework.Bus) error {
		listed, err := first(ctx, registry, noAPI)
		if err == nil {
			found = use(ctx, listed.KnownAPIs, bus)
		}
		return err
	})
	if err != nil {
		return nil
	}
	return found
}

// completeAPIs completes the name of an API.
func (p *program) completeAPIs(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.completion(cmd.Context(), func(_ context.Context, apis []string, _ *framework.Bus) []string {
		return withPrefix(apis, text)
	}), cobra.ShellCompDirectiveNoFileComp
}

// completeRPC completes the name of an RPC: first that of its API.
func (p *program) completeRPC(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	directive := cobra.ShellCompDirectiveNoFileComp
	names := p.completion(cmd.Context(), func(ctx context.Context, apis []string, bus *framework.Bus) []string {
		var names []string
		for _, api := range apis {
			switch {
			case strings.HasPrefix(text, api+"."):
				names = append(names, rpcNames(ctx, bus, api)...)
			case strings.HasPrefix(api, text):
				names = append(names, api+".")
				directive |= cobra.ShellCompDirectiveNoSpace
			}
		}
		return withPrefix(names, text)
	})
	return names, directive
}

// completeCall completes the name of an RPC, and then its parameters.
func (p *program) completeCall(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return p.completeRPC(cmd, args, text)
	}
	if strings.Contains(text, "=@") {
		return nil, cobra.ShellCompDirectiveDefault // a file
	}
	return p.completion(cmd.Context(), func(ctx context.Context, _ []string, bus *framework.Bus) []string {
		rpc, err := describeRPC(ctx, bus, args[0])
		if err != nil {
			return nil
		}
		return withPrefix(parameterNames(rpc, args[1:]), text)
	}), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// rpcNames returns the names of the unary RPCs of an API.
func rpcNames(ctx context.Context, bus *framework.Bus, api string) []string {
	described, err := bus.Describe(ctx, api)
	if err != nil {
		return nil
	}
	var names []string
	for _, rpc := range described.RPCs {
		if !rpc.ClientStream && !rpc.ServerStream {
			names = append(names, rpc.Name)
		}
	}
	return names
}

// parameterNames returns how the parameters of an RPC begin, without those that are given:
// with each value, if there are few.
func parameterNames(rpc *framework.RPCDescription, given []string) []string {
	var names []string
	for _, field := range rpc.Parameters {
		is := func(arg string) bool {
			return strings.HasPrefix(arg, field.Name+"=") || strings.HasPrefix(arg, field.Name+":=")
		}
		if slices.ContainsFunc(given, is) {
			continue
		}
		k := parseKind(field.Type)
		_, text := fromText(field, "")
		switch {
		case !text:
			names = append(names, field.Name+":=")
		case k.value == "bool":
			names = append(names, field.Name+"=true", field.Name+"=false")
		case len(field.Values) > 0:
			for _, value := range field.Values {
				names = append(names, field.Name+"="+value)
			}
		default:
			names = append(names, field.Name+"=")
		}
	}
	return names
}

// withPrefix returns the names that begin with a text.
func withPrefix(names []string, text string) []string {
	var out []string
	for _, name := range names {
		if strings.HasPrefix(name, text) {
			out = append(out, name)
		}
	}
	return out
}
