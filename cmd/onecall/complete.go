package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/framework"
)

// completeLimit is how long a shell waits for the names of a completion.
const completeLimit = 300 * time.Millisecond

// completion calls use with the names of the registry, from the cache of earlier
// completions or from etcd. Without an answer in time there is nothing to complete.
func (p *program) completion(ctx context.Context, use func(names *completer) []string) []string {
	ctx, cancel := context.WithTimeout(ctx, completeLimit)
	defer cancel()
	names, err := p.newCompleter(ctx)
	if err != nil {
		return nil
	}
	defer names.close()
	return use(names)
}

// completeAPIs completes the name of an API.
func (p *program) completeAPIs(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.completion(cmd.Context(), func(names *completer) []string {
		return withPrefix(names.apis(), text)
	}), cobra.ShellCompDirectiveNoFileComp
}

// completeRPC completes the name of an RPC: first that of its API.
func (p *program) completeRPC(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	directive := cobra.ShellCompDirectiveNoFileComp
	return p.completion(cmd.Context(), func(known *completer) []string {
		var names []string
		for _, api := range known.apis() {
			switch {
			case strings.HasPrefix(text, api+"."):
				for _, rpc := range known.rpcs(api) {
					names = append(names, rpc.Name)
				}
			case strings.HasPrefix(api, text):
				names = append(names, api+".")
				directive |= cobra.ShellCompDirectiveNoSpace
			}
		}
		return withPrefix(names, text)
	}), directive
}

// completeCall completes the name of an RPC, and then its parameters.
func (p *program) completeCall(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return p.completeRPC(cmd, args, text)
	}
	if strings.Contains(text, "=@") {
		return nil, cobra.ShellCompDirectiveDefault // a file
	}
	return p.completion(cmd.Context(), func(names *completer) []string {
		api := args[0][:max(0, strings.LastIndexByte(args[0], '.'))]
		for _, rpc := range names.rpcs(api) {
			if rpc.Name == args[0] {
				return withPrefix(parameterNames(&rpc, args[1:]), text)
			}
		}
		return nil
	}), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
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
