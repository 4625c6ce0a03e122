package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/client"
)

// docs/output.md names every metric and no other, and docs/operations.md uses none that is not there.
func TestMetricsDocumented(t *testing.T) {
	documented := metricsIn(t, filepath.Join("..", "..", "docs", "output.md"))
	written := metricsIn(t, writtenMetrics(t, &sweepRun{}, exitOK))
	if diff := cmp.Diff(documented, written); diff != "" {
		t.Error(diff)
	}
	for _, name := range metricsIn(t, filepath.Join("..", "..", "docs", "operations.md")) {
		if !slices.Contains(written, name) {
			t.Errorf("there is no metric %q", name)
		}
	}
}

// metricsIn returns the metrics that a file names, in order.
func metricsIn(t *testing.T, path string) []string {
	t.Helper()
	names := make(map[string]bool)
	for _, name := range regexp.MustCompile(`\bfilestore_expire_[a-z_]+`).FindAllString(readText(t, path), -1) {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// The age of the backlog is that of its oldest file.
func TestMetricsOfBacklog(t *testing.T) {
	run := &sweepRun{begun: time.Now(), summary: client.Summary{Left: 3, LeftSince: time.Now().Add(-time.Hour), Failed: 2, Unreadable: 1}}
	text := readText(t, writtenMetrics(t, run, exitPartial))
	for _, want := range []string{
		`filestore_expire_backlog_files{bucket="my-files",table="Files"} 3`,
		`filestore_expire_backlog_oldest_age_seconds{bucket="my-files",table="Files"} 360[01]`,
		`filestore_expire_failures_total{bucket="my-files",table="Files"} 2`,
		`filestore_expire_unreadable_records{bucket="my-files",table="Files"} 1`,
		`filestore_expire_last_run_status{bucket="my-files",table="Files"} 3`,
		`filestore_expire_last_success_timestamp_seconds{bucket="my-files",table="Files"} 0`,
	} {
		if !regexp.MustCompile(`(?m)^` + want).MatchString(text) {
			t.Errorf("%s has no %s", text, want)
		}
	}
}

func writtenMetrics(t *testing.T, run *sweepRun, status int) (path string) {
	t.Helper()
	a := &app{lookupEnv: func(name string) (string, bool) { return "my-files", name == "FILESTORE_BUCKET" }}
	a.newRootCmd() // whose flags have their defaults
	a.flags.changed = func(string) bool { return false }
	path = filepath.Join(t.TempDir(), "sweep.prom")
	if err := a.writeMetrics(path, run, status); err != nil {
		t.Fatal(err)
	}
	return path
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}
