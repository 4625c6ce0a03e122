package metrics_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/designfultech/filestore/internal/metrics"
)

// run is what a command does that ends: three files, and perhaps a success.
func run(t *testing.T, path string, succeeded bool) {
	t.Helper()
	f, err := metrics.Open(path, metrics.Label{Name: "bucket", Value: "my-files"})
	if err != nil {
		t.Fatal(err)
	}
	f.Counter("shop_files_total", "Files.", 3, metrics.Label{Name: "action", Value: "expire"})
	f.Gauge("shop_last_run_duration_seconds", "Duration of the last run.", 0.25)
	f.Counter("shop_files_total", "Files.", 0, metrics.Label{Name: "action", Value: "clean"})
	const last, help = "shop_last_success_timestamp_seconds", "When the last run that succeeded ended."
	if succeeded {
		f.Gauge(last, help, 1764057600)
	} else {
		f.Keep(last, help)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Counters go on from the file that is there, and what is kept has its value from there.
func TestRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.prom")
	run(t, path, false)
	run(t, path, true)
	run(t, path, false)
	want := strings.TrimLeft(`
# HELP shop_files_total Files.
# TYPE shop_files_total counter
shop_files_total{bucket="my-files",action="expire"} 9
shop_files_total{bucket="my-files",action="clean"} 0
# HELP shop_last_run_duration_seconds Duration of the last run.
# TYPE shop_last_run_duration_seconds gauge
shop_last_run_duration_seconds{bucket="my-files"} 0.25
# HELP shop_last_success_timestamp_seconds When the last run that succeeded ended.
# TYPE shop_last_success_timestamp_seconds gauge
shop_last_success_timestamp_seconds{bucket="my-files"} 1764057600
`, "\n")
	if diff := cmp.Diff(want, read(t, path)); diff != "" {
		t.Error(diff)
	}
	lint(t, read(t, path))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode() != 0o644 {
		t.Errorf("the mode is %v: a collector could not read it", info.Mode())
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// What stands in a label is found again as it was.
func TestLabelEscapes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.prom")
	for range 2 {
		f, err := metrics.Open(path, metrics.Label{Name: "local", Value: "C:\\my \"files\"\n2 "})
		if err != nil {
			t.Fatal(err)
		}
		f.Counter("x_total", "X.", 1)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text := read(t, path)
	if want := `x_total{local="C:\\my \"files\"\n2 "} 2` + "\n"; !strings.HasSuffix(text, want) {
		t.Errorf("%q has no %q", text, want)
	}
	lint(t, text)
}

// A file that is damaged, or none of ours, begins anew.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.prom")
	if err := os.WriteFile(path, []byte("\x00\x01\nx_total seven\n\nx_total"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := metrics.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Counter("x_total", "X.", 1)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, path), "# HELP x_total X.\n# TYPE x_total counter\nx_total 1\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A device or a directory is not replaced, and a file that can't be written stays as it is.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, os.DevNull} {
		if _, err := metrics.Open(path); err == nil {
			t.Errorf("%q is taken", path)
		}
	}
	f, err := metrics.Open(filepath.Join(dir, "none", "x.prom"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err == nil {
		t.Error("a directory was made")
	}
	// A directory that has come meanwhile.
	path := filepath.Join(dir, "x.prom")
	if f, err = metrics.Open(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err == nil {
		t.Error("a directory was replaced")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// lint has Prometheus's own parser and rules check text, as promtool check metrics does.
func lint(t *testing.T, text string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Errorf("%v in %s", err, text)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
