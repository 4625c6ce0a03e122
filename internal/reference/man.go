package reference

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Page is a manual page, for man(1).
type Page struct {
	Name string // of its file: "filestore-upload.1"
	Text string
}

// Man writes a page for each command. There is no date and no version in them: what is built from
// the same source is the same, and a release changes no page.
func (b Book) Man() []Page {
	var pages []Page
	for _, cmd := range b.commands() {
		pages = append(pages, Page{Name: pageName(cmd) + ".1", Text: b.page(cmd)})
	}
	return pages
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// page writes one page in the macros of man(7).
func (b Book) page(cmd *cobra.Command) string {
	var p roff
	p.raw(`.\" Written by go test ./cmd/filestore -run TestReference -update; do not edit.`)
	p.raw(fmt.Sprintf(`.TH "%s" "1" "" "%s" "%s"`, escaped(strings.ToUpper(pageName(cmd))), escaped(b.Root.Name()), escaped(b.Manual)))
	p.raw(".nh") // names of commands and files are not to be hyphenated
	p.raw(".ad l")
	p.section("NAME")
	p.raw(escaped(pageName(cmd)) + ` \- ` + escaped(lowerFirst(cmd.Short)))
	p.section("SYNOPSIS")
	p.raw(`\fB` + escaped(cmd.CommandPath()) + `\fR` + escaped(strings.TrimPrefix(usage(cmd), cmd.CommandPath())))
	p.section("DESCRIPTION")
	p.text(longText(cmd))
	if cmd.HasAvailableSubCommands() {
		p.section("COMMANDS")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				p.term(`\fB`+escaped(pageName(sub))+`\fR(1)`, sub.Short+".")
			}
		}
	}
	if own := options(cmd); len(own) > 0 {
		p.section("OPTIONS")
		if cmd == b.Root {
			p.text("These hold for every command.")
		}
		for _, o := range own {
			p.term(o.roff(), o.sentence())
		}
	}
	if cmd == b.Root {
		p.terms("ENVIRONMENT", b.environment())
		p.terms("FILES", b.Files)
		p.terms("EXIT STATUS", b.ExitStatus)
	} else {
		p.section("EXIT STATUS")
		p.text("0 where all was done; the others are in " + b.Root.Name() + "(1), with the options and the environment of all commands.")
	}
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.text(cmd.Example)
	}
	if cmd.HasParent() {
		p.section("SEE ALSO")
		p.raw(`\fB` + escaped(pageName(cmd.Parent())) + `\fR(1)`)
	}
	return p.String()
}

// roff gives an option as it is written: \fB\-q\fR, \fB\-\-quiet\fR.
func (o option) roff() string {
	long := `\fB` + escaped("--"+o.long) + `\fR` + escaped(o.value)
	if o.short == "" {
		return long
	}
	return `\fB` + escaped("-"+o.short) + `\fR, ` + long
}

// sentence is what an option does, with its default and its variables.
func (o option) sentence() string {
	text := o.text
	if o.byDefault != "" {
		text += " (default: " + o.byDefault + ")"
	}
	if len(o.variables) > 0 {
		text += " [" + strings.Join(o.variables, ", ") + "]"
	}
	return text
}

// roff is a text in the language of man(7).
type roff struct{ strings.Builder }

// raw writes a line of the language itself.
func (p *roff) raw(line string) { p.WriteString(line + "\n") }

func (p *roff) section(name string) { p.raw(".SH " + name) }

// text writes paragraphs, and lines that stay as they are.
func (p *roff) text(text string) {
	for _, b := range blocks(text) {
		if !b.plain {
			p.raw(".PP")
			p.raw(escaped(strings.Join(b.lines, " ")))
			continue
		}
		p.raw(".PP\n.RS 4\n.nf")
		for _, line := range b.lines {
			p.raw(escaped(line))
		}
		p.raw(".fi\n.RE")
	}
}

// term writes what is explained, already escaped, and its explanation.
func (p *roff) term(name, text string) {
	p.raw(".TP\n" + name)
	p.raw(escaped(text))
}

func (p *roff) terms(section string, terms []Term) {
	p.section(section)
	for _, t := range terms {
		p.term(`\fB`+escaped(t.Name)+`\fR`, t.Text)
	}
}

// escaped gives a text that is shown as it is: without it a dash becomes a hyphen, which nobody can
// paste into a shell, a quote a curly one, and a full stop at the start of a line a command.
func escaped(text string) string {
	text = strings.NewReplacer(`\`, `\(rs`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
