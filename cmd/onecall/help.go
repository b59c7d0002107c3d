package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// help returns the command help.
func (p *program) help() *cobra.Command {
	llm := false
	command := &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about a command, or with --llm about all",
		Long:  `Help about a command. With --llm it is one page in Markdown about all commands.`,
		Example: `  onecall help call` + "\n" +
			`  onecall help --llm`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if llm {
				writeReference(p.out, cmd.Root())
				return nil
			}
			found, rest, err := cmd.Root().Find(args)
			if err != nil {
				return usage(err)
			}
			if len(rest) > 0 {
				return usage(fmt.Errorf("unknown command %q for %q", rest[0], found.CommandPath()))
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
			found, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, each := range found.Commands() {
				if each.IsAvailableCommand() {
					names = append(names, each.Name())
				}
			}
			return withPrefix(names, text), cobra.ShellCompDirectiveNoFileComp
		},
	}
	command.Flags().BoolVar(&llm, "llm", false, "print one page in Markdown about all commands")
	return command
}

// effects says what commands change. Others change nothing.
var effects = map[string]string{
	"onecall call":           "calls an RPC, which may change what its API keeps",
	"onecall bench":          "makes many calls; of an RPC that may change something only with --effects",
	"onecall settle":         "has the instance refuse a call that it has not seen",
	"onecall doctor":         "has etcd grant and revoke a lease without keys",
	"onecall context use":    "changes the user's file of contexts",
	"onecall context set":    "changes the user's file of contexts",
	"onecall context delete": "changes the user's file of contexts",
	"onecall dev":            "runs an etcd, which keeps its data only with --dir",
	"onecall man":            "writes files",
	"onecall new":            "writes files",
	"onecall generate":       "writes files",
	"onecall protos":         "writes files",
}

// writeReference writes a page in Markdown about a command and all below it.
func writeReference(out io.Writer, root *cobra.Command) {
	fmt.Fprintf(out, "# The command %s\n\n%s\n\nFlags of all commands:\n\n```text\n%s```\n", root.Name(), root.Long, flagsOf(root))
	for _, each := range root.Commands() {
		writeCommand(out, each)
	}
}

func writeCommand(out io.Writer, command *cobra.Command) {
	if !command.IsAvailableCommand() && command.Name() != "help" {
		return
	}
	name := command.CommandPath()
	fmt.Fprintf(out, "\n## %s\n\n%s\n\n", name, strings.TrimSpace(longOf(command)))
	if effect, ok := effects[name]; ok {
		fmt.Fprintf(out, "Effect: %s.\n\n", effect)
	} else if command.Runnable() && !command.HasAvailableSubCommands() {
		fmt.Fprintf(out, "Effect: none, it only reads.\n\n")
	}
	fmt.Fprintf(out, "```text\n%s\n", strings.TrimSpace(command.UseLine()))
	if command.Example != "" {
		fmt.Fprintf(out, "\nExamples:\n%s\n", command.Example)
	}
	if flags := flagsOf(command); flags != "" {
		fmt.Fprintf(out, "\nFlags:\n%s", flags)
	}
	fmt.Fprintf(out, "```\n")
	for _, each := range command.Commands() {
		writeCommand(out, each)
	}
}

// flagsOf returns the flags of a command that it does not share with the one above.
func flagsOf(command *cobra.Command) string { return command.LocalFlags().FlagUsages() }

func longOf(command *cobra.Command) string {
	if command.Long == "" {
		return command.Short + "."
	}
	return command.Long
}

// man returns the command man.
func (p *program) man() *cobra.Command {
	return &cobra.Command{
		Use:     "man FOLDER",
		Short:   "Write the manual pages of all commands into a folder",
		Long:    `Write the manual pages of all commands into a folder, which is made if there is none.`,
		Example: `  onecall man ~/.local/share/man/man1`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			const readable = 0o755
			if err := os.MkdirAll(args[0], readable); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "onecall", Manual: "onecall"}, args[0])
		},
	}
}
