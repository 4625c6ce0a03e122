package reference

import (
	"fmt"
	"strings"
)

// Markdown writes all commands as one page of documentation, below the lines of its head.
func (b Book) Markdown(head string) string {
	var p strings.Builder
	p.WriteString(strings.TrimSpace(head) + "\n\n")
	commands := b.commands()
	p.WriteString("| command | |\n| --- | --- |\n")
	for _, cmd := range commands[1:] {
		fmt.Fprintf(&p, "| [`%s`](#%s) | %s |\n", strings.TrimPrefix(cmd.CommandPath(), b.Root.Name()+" "), pageName(cmd), cell(cmd.Short))
	}
	for _, cmd := range commands {
		p.WriteString("\n## " + cmd.CommandPath() + "\n\n")
		fence(&p, []string{usage(cmd)})
		markdownText(&p, longText(cmd))
		if own := options(cmd); len(own) > 0 {
			if cmd == b.Root {
				p.WriteString("\nOptions of every command:\n")
			}
			p.WriteString("\n| option | | default | variable |\n| --- | --- | --- | --- |\n")
			for _, o := range own {
				p.WriteString(o.markdown())
			}
		}
		if cmd.Example != "" {
			markdownText(&p, cmd.Example)
		}
	}
	return p.String()
}

func (o option) markdown() string {
	name := "--" + o.long + o.value
	if o.short != "" {
		name = "-" + o.short + ", " + name
	}
	variables := make([]string, len(o.variables))
	for i, v := range o.variables {
		variables[i] = "`" + v + "`"
	}
	byDefault := ""
	if o.byDefault != "" {
		byDefault = "`" + o.byDefault + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, cell(o.text), byDefault, strings.Join(variables, ", "))
}

// markdownText writes paragraphs, and lines that stay as they are as code.
func markdownText(p *strings.Builder, text string) {
	for _, b := range blocks(text) {
		p.WriteString("\n")
		if b.plain {
			fence(p, b.lines)
			continue
		}
		for _, line := range b.lines {
			p.WriteString(plain(line) + "\n")
		}
	}
}

// fence names no language: what is here is not meant to be run as it stands.
func fence(p *strings.Builder, lines []string) {
	p.WriteString("```text\n" + strings.Join(lines, "\n") + "\n```\n")
}

// cell is a text in a table.
func cell(text string) string { return strings.ReplaceAll(plain(text), "|", `\|`) }

// plain escapes what Markdown would take for its own.
func plain(text string) string {
	text = strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "<", `\<`, "[", `\[`, "]", `\]`, "`", "\\`", "#", `\#`, "~", `\~`).Replace(text)
	for _, mark := range []string{"- ", "-- ", "+ ", "> "} {
		if strings.HasPrefix(text, mark) {
			return `\` + text
		}
	}
	return text
}
