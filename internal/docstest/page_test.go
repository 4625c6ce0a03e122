package docstest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// root is the directory of the module.
const root = "../.."

// block is a fenced block of code in a page.
type block struct {
	line     int // of its fence, from 1
	language string
	text     string
	notRun   string // why; "": it is run
	setup    string
}

// pages are the files whose examples are run, with slashes, relative to root.
func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "examples/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, filepath.ToSlash(name))
		}
	}
	if !slices.Contains(found, "README.md") || !slices.Contains(found, "docs/README.md") {
		t.Fatalf("the pages are not all there: %q", found)
	}
	return found
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	fence   = regexp.MustCompile("^( *)(```+)([^`]*)$")
	comment = regexp.MustCompile(`(?s)^<!--\s*(not run|setup):\s*(.*?)\s*-->$`)
)

// parse finds the blocks of a page.
func parse(page string) ([]block, error) {
	var blocks []block
	var marks []string
	lines := strings.Split(page, "\n")
	for i := 0; i < len(lines); i++ {
		if strings.HasPrefix(strings.TrimSpace(lines[i]), "<!--") {
			begin := i
			for i < len(lines)-1 && !strings.Contains(lines[i], "-->") {
				i++
			}
			marks = append(marks, strings.TrimSpace(strings.Join(lines[begin:i+1], "\n")))
			continue
		}
		m := fence.FindStringSubmatch(lines[i])
		if m == nil {
			if strings.TrimSpace(lines[i]) != "" {
				marks = nil
			}
			continue
		}
		indent, ticks := m[1], m[2]
		b := block{line: i + 1, language: strings.TrimSpace(m[3])}
		var body []string
		for i++; ; i++ {
			if i == len(lines) {
				return nil, fmt.Errorf("line %d: the block does not end", b.line)
			}
			if strings.TrimSpace(lines[i]) == ticks {
				break
			}
			body = append(body, strings.TrimPrefix(lines[i], indent))
		}
		b.text = strings.Join(body, "\n") + "\n"
		for _, mark := range marks {
			found := comment.FindStringSubmatch(mark)
			switch {
			case found == nil: // a comment about something else
			case found[2] == "":
				return nil, fmt.Errorf("line %d: %q says nothing", b.line, mark)
			case found[1] == "setup":
				b.setup += found[2] + "\n"
			default:
				b.notRun = found[2]
			}
		}
		marks = nil
		blocks = append(blocks, b)
	}
	return blocks, nil
}

func TestParse(t *testing.T) {
	got, err := parse(strings.ReplaceAll(`
<!-- setup: echo a >a
echo b >b -->
<!-- not run: needs
     a cluster -->

'''sh
cat a
'''

<!-- not run: belongs to no block -->
Text.

- In a list:
  '''console
  $ cat a b
    a
  '''
`, "'''", "```"))
	if err != nil {
		t.Fatal(err)
	}
	want := []block{
		{line: 7, language: "sh", text: "cat a\n", setup: "echo a >a\necho b >b\n", notRun: "needs\n     a cluster"},
		{line: 15, language: "console", text: "$ cat a b\n  a\n"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(block{})); diff != "" {
		t.Error(diff)
	}
	for _, page := range []string{"```sh\nls\n", "<!-- not run: -->\n```sh\nls\n```\n"} {
		if got, err := parse(page); err == nil {
			t.Errorf("%q is taken for %v", page, got)
		}
	}
}

// command is one command of a console block, and what it shows.
type command struct {
	text string
	want string
}

// commands splits a console block. A command goes on at the lines that begin with "> ".
func commands(b block) ([]command, error) {
	var found []command
	output := false
	for line := range strings.Lines(b.text) {
		if text, ok := strings.CutPrefix(line, "$ "); ok {
			found = append(found, command{text: text})
			output = false
			continue
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("line %d: the block does not begin with \"$ \"", b.line)
		}
		last := &found[len(found)-1]
		if text, ok := strings.CutPrefix(line, "> "); ok && !output {
			last.text += text
			continue
		}
		output = true
		last.want += line
	}
	return found, nil
}

var (
	anID   = regexp.MustCompile(`\b[a-z0-9]{16}\b`)
	varies = []struct {
		pattern *regexp.Regexp
		name    string
	}{
		{regexp.MustCompile(`\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?( UTC|Z)?`), "TIME"},
		{anID, "ID"},
		{regexp.MustCompile(`\b\d+(\.\d+)? ([KMG]i)?B\b`), "SIZE"},
		{regexp.MustCompile(` {2,}`), "  "},
	}
)

// plain takes out of a line of output what differs from run to run.
func plain(line string) string {
	for _, v := range varies {
		line = v.pattern.ReplaceAllString(line, v.name)
	}
	return strings.TrimRight(line, " ")
}

// sameLine compares a line with what is shown on a page.
func sameLine(want, got string) bool {
	parts := strings.Split(plain(want), "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(plain(got))
}

// compare compares what a command has printed with what is shown on a page. It returns the ids that
// stand in the places of those of the page, and whether all else is the same.
func compare(want, got []string) (ids map[string]string, same bool) {
	for len(want) > 0 && want[0] != "…" {
		if len(got) == 0 || !sameLine(want[0], got[0]) {
			return nil, false
		}
		shown, printed := anID.FindAllString(want[0], -1), anID.FindAllString(got[0], -1)
		if len(shown) == len(printed) {
			for i, id := range shown {
				if ids == nil {
					ids = make(map[string]string)
				}
				ids[id] = printed[i]
			}
		}
		want, got = want[1:], got[1:]
	}
	if len(want) == 0 {
		return ids, len(got) == 0
	}
	for i := range len(got) + 1 {
		if rest, same := compare(want[1:], got[i:]); same {
			for id, printed := range ids {
				if rest == nil {
					rest = make(map[string]string)
				}
				rest[id] = printed
			}
			return rest, true
		}
	}
	return nil, false
}

func TestCompare(t *testing.T) {
	for _, test := range []struct {
		want, got string
		ids       map[string]string
		same      bool
	}{
		{"a", "a", nil, true},
		{"a", "b", nil, false},
		{"a", "a\na", nil, false},
		{"a\na", "a", nil, false},
		{
			"i4tyjg38ojrlnwba  7.1 KiB  2026-11-23 14:59:26 UTC", "abcdefgh12345678   10 B     2026-11-24 10:00:00 UTC  ",
			map[string]string{"i4tyjg38ojrlnwba": "abcdefgh12345678"}, true,
		},
		{"read 3 records", "read 4 records", nil, false},
		{"at http://… it is", "at http://127.0.0.1:1/x?y it is", nil, true},
		{"a\n…\nz", "a\nb\nc\nz", nil, true},
		{"a\n…", "a", nil, true},
		{"a\n…\nz", "a\nb", nil, false},
	} {
		ids, same := compare(strings.Split(test.want, "\n"), strings.Split(test.got, "\n"))
		if same != test.same || same && !cmp.Equal(ids, test.ids) {
			t.Errorf("%q and %q: %v, %v", test.want, test.got, ids, same)
		}
	}
}
