package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/policy"
	"github.com/designfultech/filestore/internal/records"
)

// addCompletion gives all commands below root their completions, and root the command that prints
// the scripts for shells. Nothing is asked for on the network: ids are not completed.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Short = "Print the completion for a shell"
		completion.Long = `Print the script by which a shell completes commands, flags and their values. Packages
bring them along for bash, zsh and fish.`
		completion.Args, completion.RunE = nil, runGroup
		completion.Example = `  filestore completion zsh > ~/.zfunc/_filestore`
		for _, shell := range completion.Commands() {
			shell.Short = "Print the completion for " + shell.Name()
			shell.Long, shell.Example = completionHelp(shell.Name())
		}
	}
	for _, cmd := range root.Commands() {
		completeBelow(cmd)
	}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { completeFlag(root, f) })
}

// completionHelp is the long help and the example of the completion for one shell.
func completionHelp(shell string) (long, example string) {
	switch shell {
	case "bash":
		return `Print the completion for bash. It needs the package bash-completion, version 2.`,
			`  source <(filestore completion bash)
  filestore completion bash > ~/.local/share/bash-completion/completions/filestore`
	case "zsh":
		return `Print the completion for zsh. Its directory must be in $fpath before compinit runs.`,
			`  source <(filestore completion zsh)
  filestore completion zsh > ~/.zfunc/_filestore`
	case "fish":
		return `Print the completion for fish.`,
			`  filestore completion fish | source
  filestore completion fish > ~/.config/fish/completions/filestore.fish`
	default:
		return `Print the completion for ` + shell + `. Add it to your profile.`,
			`  filestore completion ` + shell + ` | Out-String | Invoke-Expression`
	}
}

func completeBelow(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 && !takesFile(cmd.Use) {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { completeFlag(cmd, f) })
	for _, sub := range cmd.Commands() {
		completeBelow(sub)
	}
}

// takesFile reports whether a value of that name is one of the local files.
func takesFile(name string) bool {
	return strings.Contains(name, "FILE") || strings.Contains(name, "PATH")
}

// completeFlag says what the values of a flag can be: one of a few, a file, a directory, or what
// nobody can foresee. Without it shells offer the names of files.
func completeFlag(cmd *cobra.Command, f *pflag.Flag) {
	if _, there := cmd.GetFlagCompletionFunc(f.Name); there {
		return
	}
	complete := cobra.NoFileCompletions
	name, _ := pflag.UnquoteUsage(f)
	switch values, several := choices(cmd, f); {
	case several:
		complete = oneMoreOf(values)
	case len(values) > 0:
		complete = cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	case takesFile(name):
		return
	case strings.Contains(name, "DIR"):
		complete = func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
	}
	// It fails only where the command has no such flag, or where it is done already.
	_ = cmd.RegisterFlagCompletionFunc(f.Name, complete)
}

// choices are the values that a flag takes, if they are few, and whether it takes several of them
// with commas.
func choices(cmd *cobra.Command, f *pflag.Flag) (values []string, several bool) {
	switch f.Value.(type) {
	case *stateList:
		states := statesInOrder()
		if cmd.Name() == "copy" { // which leaves placeholders where they are
			states = slices.DeleteFunc(states, func(s records.State) bool { return s == records.Placeholder })
		}
		return texts(states), true
	case *classList:
		return append(texts(repairable()), "all"), true
	case *momentName:
		return texts([]records.Moment{records.ByCreated, records.ByUploaded, records.ByStored, records.ByDeleted}), false
	case *sortOrder:
		for _, field := range client.SortFields() {
			values = append(values, field, field+":desc")
		}
		return values, false
	case *logFormat:
		return texts([]logFormat{logText, logJSON}), false
	}
	switch f.Name {
	case "role":
		return texts(policy.Roles()), false
	case "partition":
		return partitions(), false
	}
	return nil, false
}

func texts[S ~string](values []S) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = string(v)
	}
	return all
}

// oneMoreOf completes the last of several values between which there are commas.
func oneMoreOf(values []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndex(typed, ",")+1]
		given := strings.Split(before, ",")
		var all []cobra.Completion
		for _, v := range values {
			if !slices.Contains(given, v) {
				all = append(all, before+v)
			}
		}
		// Another one may follow.
		return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}
