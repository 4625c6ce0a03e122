// Package reference writes the manual pages and the command reference out of the commands
// themselves: their long texts, flags and examples. Nothing of it gets into the program; a test of
// cmd/filestore calls it (docs/architecture.md, "Tests").
//
// The writer of manual pages that comes with cobra takes the texts for Markdown, in which they are
// not written: lists in columns would flow together, and patterns such as '*.pdf' lose their stars.
package reference

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Term is something that is explained: an exit status, a variable, a file.
type Term struct{ Name, Text string }

// Book is what the pages have in common, and what no command says of itself.
type Book struct {
	Root *cobra.Command
	// Manual stands at the top of every page: "Filestore manual".
	Manual string
	// ExitStatus, Environment and Files are sections of the root's page. Variables that a flag
	// names in brackets at the end of its usage are added to Environment.
	ExitStatus, Environment, Files []Term
}

// commands returns the root and every command below it that users get to see, depth first.
func (b Book) commands() []*cobra.Command {
	b.Root.InitDefaultHelpFlag()
	var all []*cobra.Command
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		all = append(all, cmd)
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				walk(sub)
			}
		}
	}
	walk(b.Root)
	return all
}

// environment is the section of that name: what the flags say of their variables, and the rest.
func (b Book) environment() []Term {
	var terms []Term
	seen := make(map[string]bool)
	for _, cmd := range b.commands() {
		for _, o := range options(cmd) {
			for _, name := range o.variables {
				if !seen[name] {
					seen[name] = true
					terms = append(terms, Term{Name: name, Text: "Holds where --" + o.long + " is not given: " + o.text + "."})
				}
			}
		}
	}
	return append(terms, b.Environment...)
}

// option is a flag, as people are told of it.
type option struct {
	short     string // without the dash; may be empty
	long      string
	value     string // with what comes between: " NAME", "[=DIR]", or empty of a switch
	text      string
	byDefault string   // empty: none that is worth telling
	variables []string // of the environment
}

// variablesAtEnd matches the variables that a usage ends with: "[AWS_ENDPOINT_URL, ..._S3]".
func variablesAtEnd() *regexp.Regexp {
	return regexp.MustCompile(`\s*\[([A-Z][A-Z0-9_]+(?:, [A-Z0-9_.]+)*)\]$`)
}

// options returns the flags of a command alone, without those of its parents.
func options(cmd *cobra.Command) []option {
	var all []option
	end := variablesAtEnd()
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" && cmd.HasParent() {
			return
		}
		o := option{short: f.Shorthand, long: f.Name}
		name, usage := pflag.UnquoteUsage(f)
		switch {
		case strings.HasPrefix(name, "[="):
			o.value = name
		case f.NoOptDefVal != "" && name != "":
			o.value = "[=" + name + "]"
		case name == "string":
			o.value = " NAME"
		case name != "":
			o.value = " " + strings.ToUpper(name)
		}
		if m := end.FindStringSubmatch(usage); m != nil {
			usage = strings.TrimSuffix(usage, m[0])
			for part := range strings.SplitSeq(m[1], ", ") {
				if rest, ok := strings.CutPrefix(part, "..."); ok {
					part = o.variables[0] + rest
				}
				o.variables = append(o.variables, part)
			}
		}
		o.text = usage
		switch f.DefValue {
		case "", "0", "false", "[]":
		default:
			o.byDefault = f.DefValue
		}
		all = append(all, o)
	})
	return all
}

// block is a paragraph, which flows, or lines that stay as they are.
type block struct {
	lines []string
	plain bool // the lines stay
}

// blocks splits a long text. What is indented stays as it is, without the indentation.
func blocks(text string) []block {
	var all []block
	open := false
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		line = strings.TrimRight(line, " \t")
		indented := strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "\t")
		if line == "" {
			open = false
			continue
		}
		if open = open && all[len(all)-1].plain == indented; !open {
			all = append(all, block{plain: indented})
			open = true
		}
		if indented {
			line = strings.TrimPrefix(strings.TrimPrefix(line, "\t"), "  ")
		}
		last := &all[len(all)-1]
		last.lines = append(last.lines, line)
	}
	return all
}

// longText is what a command says of itself.
func longText(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short + "."
}

// usage is how a command is called.
func usage(cmd *cobra.Command) string {
	line := cmd.CommandPath()
	if len(options(cmd)) > 0 {
		line += " [OPTION...]"
	}
	if _, arguments, ok := strings.Cut(cmd.Use, " "); ok {
		return line + " " + arguments
	}
	// A command that does something by itself says which arguments it takes.
	if cmd.HasAvailableSubCommands() && cmd.Args == nil {
		return line + " COMMAND"
	}
	return line
}
