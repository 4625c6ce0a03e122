package main

import (
	"strings"
	"testing"
)

// The index of a table in AWS is made while everything goes on, and waited for. Whoever asks for one that is
// there, or has it removed twice, gets what they want.
func TestIndexOfATableThatIsThere(t *testing.T) {
	aws := newAccount(t)
	run := func(args ...string) string {
		t.Helper()
		r := runInAccount(t.Context(), t, map[string]string{"FILESTORE_BUCKET": "my-files"},
			append(args, "--endpoint-url", aws.url, "--region", "eu-central-1")...)
		if r.status != exitOK || r.stderr != "" {
			t.Fatalf("%q: exit status %d\n%s", args, r.status, r.stderr)
		}
		return r.stdout
	}
	run("init")
	for _, step := range []struct{ args, want string }{
		{"index status", "pending\tnone\tno\t\t\n"},
		{"index create --wait=false", "pending\tcreating\tyes\t12\t3456\n"},
		{"index create", "pending\tactive\tno\t12\t3456\n"},
		{"index create --json", `{"name":"pending","state":"active","backfilling":false,"records":12,"bytes":3456}` + "\n"},
		{"init -q --index", "my-files\nmy-files\nmy-files\nmy-files\nFiles\npending\n"},
		{"index drop", "pending\tnone\tno\t\t\n"},
		{"index drop --json", `{"name":"pending","state":"none","backfilling":false}` + "\n"},
		{"index create", "pending\tactive\tno\t12\t3456\n"},
		{"index status -q", "pending\n"},
	} {
		if got := run(strings.Fields(step.args)...); got != step.want {
			t.Errorf("%s: %q, want %q", step.args, got, step.want)
		}
	}
}

// Where the table is missing, that is said as by every other command.
func TestIndexWithoutATable(t *testing.T) {
	aws := newAccount(t)
	for _, args := range []string{"index status", "index create", "index drop"} {
		r := runInAccount(t.Context(), t, map[string]string{"FILESTORE_BUCKET": "my-files"},
			append(strings.Fields(args), "--endpoint-url", aws.url, "--region", "eu-central-1")...)
		if r.status != exitUsage || !strings.Contains(r.stderr, `"filestore init" creates the bucket and the table`) {
			t.Errorf("%s: exit status %d\n%s", args, r.status, r.stderr)
		}
	}
}
