package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
)

// The description of an API in the output.
type (
	apiDescription struct {
		API     string           `json:"api"`
		Service string           `json:"service"`
		Comment string           `json:"comment,omitempty"`
		RPCs    []rpcDescription `json:"rpcs"`
	}

	rpcDescription struct {
		Name           string             `json:"name"`
		Method         string             `json:"method"`
		Comment        string             `json:"comment,omitempty"`
		Timeout        string             `json:"timeout,omitempty"`
		Idempotency    string             `json:"idempotency"`
		ClientStream   bool               `json:"clientStream"`
		ServerStream   bool               `json:"serverStream"`
		Parameters     []fieldDescription `json:"parameters"`
		ParameterRules []string           `json:"parameterRules,omitempty"`
		Reply          []fieldDescription `json:"reply"`
		ReplyRules     []string           `json:"replyRules,omitempty"`
		Example        string             `json:"example,omitempty"`
	}

	fieldDescription struct {
		Name     string             `json:"name"`
		Type     string             `json:"type"`
		Required bool               `json:"required"`
		Oneof    string             `json:"oneof,omitempty"`
		Redacted bool               `json:"redacted,omitempty"`
		Rules    []string           `json:"rules,omitempty"`
		Comment  string             `json:"comment,omitempty"`
		Fields   []fieldDescription `json:"fields,omitempty"`
		Values   []string           `json:"values,omitempty"`
	}
)

func newAPIDescription(of *framework.Description) apiDescription {
	out := apiDescription{API: of.API, Service: of.Service, Comment: of.Comment}
	for _, rpc := range of.RPCs {
		described := rpcDescription{
			Name: rpc.Name, Method: rpc.Method, Comment: rpc.Comment, Idempotency: rpc.Idempotency,
			ClientStream: rpc.ClientStream, ServerStream: rpc.ServerStream,
			Parameters: newFieldDescriptions(rpc.Parameters), ParameterRules: rpc.ParameterRules,
			Reply: newFieldDescriptions(rpc.Reply), ReplyRules: rpc.ReplyRules, Example: exampleCall(rpc),
		}
		if rpc.Timeout > 0 {
			described.Timeout = rpc.Timeout.String()
		}
		out.RPCs = append(out.RPCs, described)
	}
	return out
}

func newFieldDescriptions(of []framework.FieldDescription) []fieldDescription {
	out := []fieldDescription{}
	for _, field := range of {
		described := fieldDescription{
			Name: field.Name, Type: field.Type, Required: field.Required, Oneof: field.Oneof, Redacted: field.Redacted,
			Rules: field.Rules, Comment: field.Comment, Values: field.Values,
		}
		if len(field.Fields) > 0 {
			described.Fields = newFieldDescriptions(field.Fields)
		}
		out = append(out, described)
	}
	return out
}

func (p *program) describe() *cobra.Command {
	return &cobra.Command{
		Use:   "describe API[.RPC]",
		Short: "Describe an API or one of its RPCs",
		Long: `Describe an API or one of its RPCs: parameters, replies, rules and comments, as the .proto
that an instance publishes declares them, and calls to copy.`,
		Example: `  onecall describe auth` + "\n" + `  onecall describe auth.check_password -o json`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withBus(func(registry *etcd.Registry, bus *framework.Bus) error {
				return p.showDescription(cmd.Context(), registry, bus, args[0])
			})
		},
		ValidArgsFunction: p.completeRPC,
	}
}

func (p *program) showDescription(ctx context.Context, registry discovery.Registry, bus *framework.Bus, name string) error {
	done := p.waiting("describing " + name)
	described, err := describeName(ctx, registry, bus, name)
	done()
	if err != nil {
		return err
	}
	if p.format != "table" && p.format != "plain" {
		return p.writeValue(newAPIDescription(described))
	}
	fmt.Fprint(p.out, described)
	for i, rpc := range described.RPCs {
		if example := exampleCall(rpc); example != "" {
			if i == 0 {
				fmt.Fprintln(p.out)
			}
			fmt.Fprintln(p.out, example)
		}
	}
	return nil
}

// describeName returns the description of an API, or of an API with one RPC only.
func describeName(ctx context.Context, registry discovery.Registry, bus *framework.Bus, name string) (*framework.Description, error) {
	snapshot, err := first(ctx, registry, name)
	if err != nil {
		return nil, err
	}
	dot := strings.LastIndexByte(name, '.')
	if snapshot.Known || dot < 0 || !slices.Contains(snapshot.KnownAPIs, name[:dot]) {
		return bus.Describe(ctx, name)
	}
	described, err := bus.Describe(ctx, name[:dot])
	if err != nil {
		return nil, err
	}
	rpc, err := rpcOf(described, name)
	if err != nil {
		return nil, err
	}
	one := *described
	one.RPCs = []framework.RPCDescription{*rpc}
	return &one, nil
}

// rpcOf returns an RPC of an API by its bus name.
func rpcOf(of *framework.Description, name string) (*framework.RPCDescription, error) {
	var names []string
	for i := range of.RPCs {
		if of.RPCs[i].Name == name {
			return &of.RPCs[i], nil
		}
		names = append(names, of.RPCs[i].Name)
	}
	return nil, fmt.Errorf("%s: API %q has no such RPC: it has %s", name, of.API, strings.Join(names, ", "))
}
