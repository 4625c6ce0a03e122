package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/reference"
)

const (
	manualPages      = "../../man"
	completions      = "../../completions"
	commandReference = "../../docs/commands.md"
	// updateReference writes them all.
	updateReference = "go test ./cmd/filestore -run TestReference -update"
)

// book is what the manual says beside the commands' own texts.
func book(t *testing.T) reference.Book {
	t.Helper()
	b := reference.Book{
		Root:   (&app{}).newRootCmd(),
		Manual: "Filestore manual",
		Environment: []reference.Term{
			{Name: "AWS_*", Text: "All that the AWS SDK reads: credentials, its files, single sign-on, AWS_CA_BUNDLE, and so on. HTTPS_PROXY and NO_PROXY hold too."},
			{Name: "FILESTORE_API_KEYS", Text: "The keys of the HTTP API, separated by commas, for serve and lambda."},
			{Name: "FILESTORE_TOKEN_KEY", Text: "Signs the tokens with which a browser takes back what it has uploaded, for serve and lambda: 32 bytes or more, " +
				"the same for all that serve one filestore."},
			{Name: "TERM", Text: "With dumb, lines of progress are written in place of a bar, and charts in plain characters."},
			{Name: "TMPDIR", Text: "Where verify sorts what it has read."},
			{Name: "XDG_DATA_HOME", Text: "The local store of --local without a directory is in filestore there; not on macOS."},
			{Name: "XDG_STATE_HOME", Text: "What is known of uploads and downloads that can be resumed is in filestore there; not on macOS and Windows."},
		},
		Files: []reference.Term{
			{Name: "~/.local/share/filestore", Text: "The local store of --local without a directory; on macOS ~/Library/Application Support/filestore."},
			{Name: "~/.local/state/filestore", Text: "What is known of uploads and downloads that can be resumed; on macOS ~/Library/Application Support/filestore-state, " +
				`on Windows %LocalAppData%\filestore\state.`},
			{Name: "~/.aws/config, ~/.aws/credentials", Text: "The configuration of the AWS SDK."},
		},
	}
	for line := range strings.Lines(exitStatusHelp) {
		if status, what, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			b.ExitStatus = append(b.ExitStatus, reference.Term{Name: status, Text: what})
		}
	}
	return b
}

const referenceHead = `
<!-- Written by go test ./cmd/filestore -run TestReference -update; do not edit. -->

# Commands

What "filestore COMMAND --help" and the manual pages say, on one page. How the commands go together is in the [README](../README.md); what
they print, and their exit statuses, in [output.md](output.md).
`

// completionScripts are those that packages bring along, by the names under which shells look for them.
func completionScripts(t *testing.T, root *cobra.Command) map[string]string {
	t.Helper()
	var bash, zsh, fish bytes.Buffer
	for _, err := range []error{root.GenBashCompletionV2(&bash, true), root.GenZshCompletion(&zsh), root.GenFishCompletion(&fish, true)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return map[string]string{"filestore.bash": bash.String(), "_filestore": zsh.String(), "filestore.fish": fish.String()}
}

// TestReference compares the manual pages, the command reference and the completions with the commands, or
// with -update writes them.
func TestReference(t *testing.T) {
	b := book(t)
	want := map[string]string{commandReference: b.Markdown(referenceHead)}
	for _, page := range b.Man() {
		want[filepath.Join(manualPages, page.Name)] = page.Text
	}
	for name, script := range completionScripts(t, b.Root) {
		want[filepath.Join(completions, name)] = script
	}
	var there []string
	for _, dir := range []string{manualPages, completions} {
		found, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		there = append(there, found...)
	}
	if flag.Lookup(updateFlag).Value.String() == "true" {
		for _, path := range there {
			if _, ok := want[path]; !ok {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
		}
		for path, text := range want {
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	for _, path := range there {
		if _, ok := want[path]; !ok {
			t.Errorf("%s is of no command; write the reference anew: %s", path, updateReference)
		}
	}
	for path, text := range want {
		got, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%v; write the reference anew: %s", err, updateReference)
		} else if diff := cmp.Diff(text, string(got)); diff != "" {
			t.Errorf("%s is not what the commands say (-commands +file); write the reference anew: %s\n%s", path, updateReference, diff)
		}
	}
}

// TestCaskHasAllPages compares the list of manual pages in goreleaser.yaml, which knows no patterns there, with those there are.
func TestCaskHasAllPages(t *testing.T) {
	text, err := os.ReadFile(filepath.FromSlash("../../goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var listed, want []string
	for _, line := range regexp.MustCompile(`(?m)^ +- man/(\S+\.1)$`).FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, line[1])
	}
	pages, err := filepath.Glob(filepath.Join(manualPages, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pages {
		want = append(want, filepath.Base(path))
	}
	if diff := cmp.Diff(want, listed); diff != "" {
		t.Errorf("goreleaser.yaml, homebrew_casks, manpages (-there are +listed):\n%s", diff)
	}
}

// TestManualNamesVariables looks for every variable that the program reads in the first page of the manual.
func TestManualNamesVariables(t *testing.T) {
	page := firstPage(t)
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, regexp.MustCompile(`"FILESTORE_[A-Z_]+"`).FindAllString(string(text), -1)...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < 10 {
		t.Fatalf("only %d variables are found in the sources: %q", len(names), names)
	}
	for _, name := range names {
		name = strings.Trim(name, `"`)
		if !strings.Contains(page, "\n\\fB"+name+"\\fR\n") {
			t.Errorf("the manual does not name %s: end the usage of its flag with [%s], or add it to book", name, name)
		}
	}
}

// firstPage is the first page of the manual.
func firstPage(t *testing.T) string {
	t.Helper()
	for _, page := range book(t).Man() {
		if page.Name == "filestore.1" {
			return page.Text
		}
	}
	t.Fatal("there is no filestore.1")
	return ""
}

// TestExamples wants an example of every command.
func TestExamples(t *testing.T) {
	for _, page := range book(t).Man() {
		if !strings.Contains(page.Text, "\n.SH EXAMPLES\n") {
			t.Errorf("%s has no example", page.Name)
		}
	}
}
