package reference_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/reference"
)

// newBook has a command with everything that Markdown or roff would take for its own.
func newBook() reference.Book {
	root := &cobra.Command{Use: "tool", Short: "Do things"}
	root.PersistentFlags().String("bucket", "b", "the bucket [TOOL_BUCKET, ..._NAME]")
	cmd := &cobra.Command{
		Use:   "list ID...",
		Short: "List them",
		Long: `List all of them.
'*' is any, and --all is "all":

  one    in columns
         as written

.hidden files too, under C:\x.`,
		Example: `  tool list '*.pdf'`,
		Run:     func(*cobra.Command, []string) {},
	}
	cmd.Flags().BoolP("quiet", "q", false, "say nothing")
	cmd.Flags().Int("limit", 5, "at most `N`")
	root.AddCommand(cmd, &cobra.Command{Use: "__server", Hidden: true, Run: func(*cobra.Command, []string) {}})
	return reference.Book{
		Root: root, Manual: "Tool manual",
		ExitStatus:  []reference.Term{{Name: "0", Text: "done"}},
		Environment: []reference.Term{{Name: "TERM", Text: "The terminal."}},
		Files:       []reference.Term{{Name: "~/.tool", Text: "A file."}},
	}
}

func TestMan(t *testing.T) {
	pages := newBook().Man()
	if len(pages) != 2 || pages[0].Name != "tool.1" || pages[1].Name != "tool-list.1" {
		t.Fatalf("pages: %+v", pages)
	}
	const want = `.TH "TOOL\-LIST" "1" "" "tool" "Tool manual"
.nh
.ad l
.SH NAME
tool\-list \- list them
.SH SYNOPSIS
\fBtool list\fR [OPTION...] ID...
.SH DESCRIPTION
.PP
List all of them. \(aq*\(aq is any, and \-\-all is \(dqall\(dq:
.PP
.RS 4
.nf
one    in columns
       as written
.fi
.RE
.PP
\&.hidden files too, under C:\(rsx.
.SH OPTIONS
.TP
\fB\-\-limit\fR N
at most N (default: 5)
.TP
\fB\-q\fR, \fB\-\-quiet\fR
say nothing
.SH EXIT STATUS
.PP
0 where all was done; the others are in tool(1), with the options and the environment of all commands.
.SH EXAMPLES
.PP
.RS 4
.nf
tool list \(aq*.pdf\(aq
.fi
.RE
.SH SEE ALSO
\fBtool\fR(1)
`
	_, got, _ := strings.Cut(pages[1].Text, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tool-list.1 (-want +got):\n%s", diff)
	}
	for _, part := range []string{
		".SH COMMANDS\n.TP\n\\fBtool\\-list\\fR(1)\nList them.\n",
		".TP\n\\fBTOOL_BUCKET\\fR\nHolds where \\-\\-bucket is not given: the bucket.\n.TP\n\\fBTOOL_BUCKET_NAME\\fR\n",
		".TP\n\\fBTERM\\fR\nThe terminal.\n",
		".SH FILES\n.TP\n\\fB\\(ti/.tool\\fR\nA file.\n",
		".SH EXIT STATUS\n.TP\n\\fB0\\fR\ndone\n",
	} {
		if !strings.Contains(pages[0].Text, part) {
			t.Errorf("tool.1 has no %q:\n%s", part, pages[0].Text)
		}
	}
}

func TestMarkdown(t *testing.T) {
	const want = "# Commands\n" + `
| command | |
| --- | --- |
| [~list~](#tool-list) | List them |

## tool

~~~text
tool [OPTION...] COMMAND
~~~

Do things.

Options of every command:

| option | | default | variable |
| --- | --- | --- | --- |
| ~--bucket NAME~ | the bucket | ~b~ | ~TOOL_BUCKET~, ~TOOL_BUCKET_NAME~ |
| ~-h, --help~ | help for tool |  |  |

## tool list

~~~text
tool list [OPTION...] ID...
~~~

List all of them.
'\*' is any, and --all is "all":

~~~text
one    in columns
       as written
~~~

.hidden files too, under C:\\x.

| option | | default | variable |
| --- | --- | --- | --- |
| ~--limit N~ | at most N | ~5~ |  |
| ~-q, --quiet~ | say nothing |  |  |

~~~text
tool list '*.pdf'
~~~
`
	if diff := cmp.Diff(strings.ReplaceAll(want, "~", "`"), newBook().Markdown("# Commands")); diff != "" {
		t.Errorf("Markdown (-want +got):\n%s", diff)
	}
}
