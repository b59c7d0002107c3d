package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// contextRecord is a context in the output.
type contextRecord struct {
	settings

	Name    string `json:"name"`
	Current bool   `json:"current"`
}

var contextColumns = []string{"", "NAME", "ETCD", "NAMESPACE", "USER"}

func (c contextRecord) cells() []string {
	sign := ""
	if c.Current {
		sign = "*"
	}
	return []string{sign, c.Name, strings.Join(c.Etcd, ","), c.Namespace, c.EtcdUser}
}

// settingRecord is a setting of a context in the output.
type settingRecord struct{ Setting, Value string }

func (s settingRecord) cells() []string { return []string{s.Setting, s.Value} }

func (p *program) contextCommands() *cobra.Command {
	command := &cobra.Command{
		Use:   "context",
		Short: "Keep the settings of several registries by name",
		Long: `Keep the settings of several registries by name, in a file that only the user can read. It
has the names of files with certificates and passwords, and no password.

A setting comes from the flags, else from the environment, else from the context: that of
--context, or the one in use. If the flags or the environment name an etcd, the context's
files and user, which are for its own etcd, are left out.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	none := false
	use := &cobra.Command{
		Use: "use NAME", Short: "Use a context from now on", Example: `  onecall context use staging` + "\n" + `  onecall context use --none`,
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) == 1) == none || len(args) > 1 {
				return errors.New("give the name of one context, or --none")
			}
			return nil
		},
		RunE:              func(_ *cobra.Command, args []string) error { return useContext(strings.Join(args, "")) },
		ValidArgsFunction: completeContexts,
	}
	use.Flags().BoolVar(&none, "none", false, "use no context")
	command.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the contexts", Long: `List the contexts; "*" is before the one in use.`, Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return p.listContexts() },
		},
		&cobra.Command{
			Use: "show [NAME]", Short: "Show the settings of a context, or of the one in use", Args: cobra.MaximumNArgs(1),
			RunE:              func(_ *cobra.Command, args []string) error { return p.showContext(strings.Join(args, "")) },
			ValidArgsFunction: completeContexts,
		},
		use,
		&cobra.Command{
			Use: "set NAME", Short: "Make a context, or change it",
			Long: `Make a context, or change it. Settings are those of the flags; others stay as they are. An
empty value removes a setting.`,
			Example: `  onecall context set staging --etcd https://etcd.staging:2379 --etcd-ca ca.crt --tls-ca ca.crt` + "\n" +
				`  onecall context set staging --etcd-user ''`,
			Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return p.setContext(cmd, args[0]) },

			ValidArgsFunction: completeContexts,
		},
		&cobra.Command{
			Use: "delete NAME", Short: "Delete a context", Args: cobra.ExactArgs(1),
			RunE:              func(_ *cobra.Command, args []string) error { return deleteContext(args[0]) },
			ValidArgsFunction: completeContexts,
		},
	)
	return command
}

func (p *program) listContexts() error {
	read, err := readContexts()
	if err != nil {
		return usage(err)
	}
	var records []contextRecord
	for _, name := range read.names() {
		records = append(records, contextRecord{read.Contexts[name], name, name == read.Current})
	}
	return writeTable(p, contextColumns, records)
}

func (p *program) showContext(name string) error {
	read, err := readContexts()
	if err != nil {
		return usage(err)
	}
	if name == "" {
		name = read.Current
	}
	if name == "" {
		return usage(errors.New("no context is in use: give the name of one, or choose one with: onecall context use NAME"))
	}
	found, err := read.named(name)
	if err != nil {
		return usage(err)
	}
	if p.format != "table" && p.format != "plain" {
		return p.writeValue(contextRecord{found, name, name == read.Current})
	}
	records := []settingRecord{{"context", name}}
	if len(found.Etcd) > 0 {
		records = append(records, settingRecord{"etcd", strings.Join(found.Etcd, ",")})
	}
	for _, each := range textSettings {
		if value := *each.in(&found); value != "" {
			records = append(records, settingRecord{each.flag, value})
		}
	}
	if found.Insecure {
		records = append(records, settingRecord{"insecure", strconv.FormatBool(true)})
	}
	return writeTable(p, []string{"SETTING", "VALUE"}, records)
}

func useContext(name string) error {
	read, err := readContexts()
	if err != nil {
		return usage(err)
	}
	if name != "" {
		if _, err := read.named(name); err != nil {
			return usage(err)
		}
	}
	read.Current = name
	return read.write()
}

// setContext changes the settings whose flags are set.
func (p *program) setContext(cmd *cobra.Command, name string) error {
	if !contextName.MatchString(name) {
		return usage(fmt.Errorf("%q is not the name of a context: it consists of letters, digits and any of \"._-\"", name))
	}
	read, err := readContexts()
	if err != nil {
		return usage(err)
	}
	changed := read.Contexts[name]
	if cmd.Flags().Changed("etcd") {
		changed.Etcd = p.settings.Etcd
	}
	if cmd.Flags().Changed("insecure") {
		changed.Insecure = p.settings.Insecure
	}
	for _, each := range textSettings {
		if !cmd.Flags().Changed(each.flag) {
			continue
		}
		value := *each.in(&p.settings)
		if each.file && value != "" { // the context is used in other folders too
			if value, err = filepath.Abs(value); err != nil {
				return err
			}
		}
		*each.in(&changed) = value
	}
	if read.Contexts == nil {
		read.Contexts = make(map[string]settings)
	}
	read.Contexts[name] = changed
	return read.write()
}

func deleteContext(name string) error {
	read, err := readContexts()
	if err != nil {
		return usage(err)
	}
	if _, err := read.named(name); err != nil {
		return usage(err)
	}
	delete(read.Contexts, name)
	if read.Current == name {
		read.Current = ""
	}
	return read.write()
}

// completeContexts completes the name of a context.
func completeContexts(_ *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	read, err := readContexts()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return withPrefix(read.names(), text), cobra.ShellCompDirectiveNoFileComp
}
