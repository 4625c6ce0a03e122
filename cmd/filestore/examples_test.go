package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/testserver"
)

// exampleStub stands in for the program: it has the program look at the arguments and, since it is asked for
// its help, do nothing.
const exampleStub = `#!/bin/sh
echo "$@" >>"$STUB_CALLS"
%q "$@" --help >/dev/null || echo "$@" >>"$STUB_FAILURES"
`

var cronTime = regexp.MustCompile(`^([0-9*/,-]+ ){5}`)

// TestHelpExamples runs the examples in the help of each command, as a shell takes them: their commands
// and flags exist, and their values can be read.
func TestHelpExamples(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the examples are for a Unix shell")
	}
	if testserver.Race {
		t.Skip("one command after the other")
	}
	program, err := exec.LookPath("filestore")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	bin, calls, failures := filepath.Join(dir, "bin"), filepath.Join(dir, "calls"), filepath.Join(dir, "failures")
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(bin, "filestore"), fmt.Sprintf(exampleStub, program))
	for _, other := range []string{"aws", "curl", "cut", "jq", "pg_dump", "tar"} {
		write(filepath.Join(bin, other), "#!/bin/sh\n")
	}
	for _, read := range []string{"ids", "old-files.tsv"} {
		write(read, "")
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("HOME", dir)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	t.Setenv("STUB_CALLS", calls)
	t.Setenv("STUB_FAILURES", failures)

	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			visit(c)
		}
		// Those of completion are for shells of their own.
		if cmd.Example == "" || strings.HasPrefix(cmd.CommandPath(), "filestore completion") {
			return
		}
		for line := range strings.Lines(strings.ReplaceAll(cmd.Example, "\\\n", "")) {
			line = cronTime.ReplaceAllString(strings.TrimSpace(line), "")
			write(calls, "")
			write(failures, "")
			if out, err := exec.CommandContext(t.Context(), "bash", "-n", "-c", line).CombinedOutput(); err != nil {
				t.Errorf("%s: the example %q: %v: %s", cmd.CommandPath(), line, err, out)
			}
			// How it ends is up to the other programs, which have nothing to work on.
			out, _ := exec.CommandContext(t.Context(), "bash", "-c", line).CombinedOutput()
			called, _ := os.ReadFile(calls)
			failed, _ := os.ReadFile(failures)
			if len(failed) > 0 || len(called) == 0 && !strings.HasPrefix(line, "aws ") {
				t.Errorf("%s: the example %q: called %q, failed %q: %s", cmd.CommandPath(), line, called, failed, out)
			}
		}
	}
	visit((&app{}).newRootCmd())
}
