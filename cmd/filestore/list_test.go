package main

import (
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

func TestPointInTime(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-11-23":                now.Add(-60 * time.Hour),
		"2026-11-23T14:50:17Z":      time.Date(2026, 11, 23, 14, 50, 17, 0, time.UTC),
		"2026-11-23T14:50:17+09:00": time.Date(2026, 11, 23, 5, 50, 17, 0, time.UTC),
		"2026-11-23T14:50:17.5Z":    time.Date(2026, 11, 23, 14, 50, 17, 500_000_000, time.UTC),
		"2026-11-23T14:50:17":       time.Date(2026, 11, 23, 14, 50, 17, 0, time.UTC), // as records have it
		"24h":                       now.Add(-24 * time.Hour),
		"7d":                        now.Add(-7 * 24 * time.Hour),
		"1h30m":                     now.Add(-90 * time.Minute),
		"0s":                        now,
	} {
		var p pointInTime
		if err := p.Set(text); err != nil || !p.at(now).Equal(want) {
			t.Errorf("%q is %s, %v; want %s", text, p.at(now), err, want)
		}
	}
	for _, text := range []string{"", "soon", "2026", "20261123", "3600", "-5", "-1h", "-7d", "2026-13-01", "2026-11-23 14:50", "23.11.2026", "0001-01-01"} {
		var p pointInTime
		if err := p.Set(text); err == nil {
			t.Errorf("%q is taken for %s", text, p.at(now))
		}
	}
	var unset pointInTime
	if !unset.at(now).IsZero() {
		t.Error("a time that is not set is one")
	}
}

func TestThousands(t *testing.T) {
	for digits, want := range map[string]string{
		"0": "0", "999": "999", "1000": "1,000", "123456": "123,456", "1234567.5": "1,234,567.5", "-1000": "-1,000", "-100": "-100",
	} {
		if got := thousands(digits); got != want {
			t.Errorf("%q is written %q, want %q", digits, got, want)
		}
	}
}

func TestDescribeReads(t *testing.T) {
	for want, c := range map[string]records.Cost{
		"scanned 12,345 records in 31 requests, 1,530.5 read units": {Requests: 31, Records: 12_345, Units: 1530.5},
		"scanned 1 record in 1 request, 0.5 read units":             {Requests: 1, Records: 1, Units: 0.5},
		"scanned 0 records in 8 requests":                           {Requests: 8}, // a server that does not tell
	} {
		if got := describeReads(false, c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got, want := describeReads(true, records.Cost{Requests: 1, Records: 7}), "scanned the local store"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Long reading says every 10 seconds how far it is; with -q it does not.
func TestShowReads(t *testing.T) {
	for quiet, want := range map[bool]string{
		false: "filestore: progress: read: 1,500 records\nfilestore: progress: read: 1,500 records\n", true: "",
	} {
		synctest.Test(t, func(t *testing.T) {
			var stderr strings.Builder
			a := &app{stderr: &stderr, flags: globalFlags{quiet: quiet}}
			reads := records.NewMeter(0)
			stop := a.showReads(t.Context(), reads)
			done, err := reads.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			done(records.Cost{Requests: 1, Records: 1500})
			time.Sleep(2*plainInterval + time.Second)
			stop()
			time.Sleep(plainInterval) // nothing comes after the end
			if got := stderr.String(); got != want {
				t.Errorf("quiet %t: %q, want %q", quiet, got, want)
			}
		})
	}
}

// localStore makes a local store whose table holds rows of
// (id, name, type, size, meta, created_at, uploaded_at, stored_at, deleted_at), as they are.
func localStore(t *testing.T, rows ...[]any) (dir string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the local store is not supported here")
	}
	dir = filepath.Join(t.TempDir(), "store")
	if status, _, stderr := runApp(t, &app{}, "--local="+dir, "init"); status != exitOK {
		t.Fatal(stderr)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO files (id, name, type, size, meta, created_at, uploaded_at, stored_at, deleted_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, row...); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runApp runs a command line on a, which says what is a terminal.
func runApp(t *testing.T, a *app, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	a.stdin, a.stdout, a.stderr = strings.NewReader(""), &out, &errs
	if a.lookupEnv == nil {
		a.lookupEnv = func(string) (string, bool) { return "", false }
	}
	a.columns = func() int { return 80 }
	status = a.main(t.Context(), args)
	return status, out.String(), errs.String()
}

// Records that break the contract are listed like others, and named; what they hold reaches no
// terminal raw.
func TestListMalformed(t *testing.T) {
	const at = "2026-11-23T14:50:17"
	dir := localStore(t,
		[]any{"badmeta000000000", "a.txt", "text/plain", 1, `{"a":`, at, at, nil, nil},
		[]any{"badtime000000000", "b.txt", "text/plain", 2, nil, at, at, "soon\t\x1b[31m", nil},
		[]any{"not an id", "c\n.txt", nil, nil, nil, nil, nil, nil, nil},
		[]any{"sound00000000000", "d.txt", "text/plain", 3, `{"a":1}`, at, at, nil, nil},
	)
	status, stdout, stderr := runApp(t, &app{}, "--local="+dir, "list")
	want := "badmeta000000000\ta.txt\t1\ttext/plain\ttemporary\t" + at + "Z\t\t\t{\"a\":\t" + at + "Z\n" +
		"badtime000000000\tb.txt\t2\ttext/plain\tstored\t" + at + "Z\tsoon\\t\\x1b[31m\t\t\t" + at + "Z\n" +
		"not an id\tc\\n.txt\t\t\tplaceholder\t\t\t\t\t\n" +
		"sound00000000000\td.txt\t3\ttext/plain\ttemporary\t" + at + "Z\t\t\t{\"a\":1}\t" + at + "Z\n"
	if diff := cmp.Diff(want, stdout); diff != "" || status != exitOK {
		t.Errorf("exit status %d (-want +got):\n%s", status, diff)
	}
	if want := `filestore: warning: "badmeta000000000": the record is malformed: [meta]
filestore: warning: "badtime000000000": the record is malformed: [stored_at]
`; stderr != want {
		t.Errorf("standard error:\n%s\nwant:\n%s", stderr, want)
	}

	_, stdout, _ = runApp(t, &app{}, "--local="+dir, "list", "--json", "--state", "stored")
	if want := `{"id":"badtime000000000","name":"b.txt","type":"text/plain","size":2,"state":"stored","created_at":"` + at +
		`Z","uploaded_at":"` + at + `Z","stored_at":"soon\t\u001b[31m","malformed":["stored_at"]}` + "\n"; stdout != want {
		t.Errorf("%q, want %q", stdout, want)
	}

	// By metadata nothing malformed is found, and nothing fails.
	status, stdout, _ = runApp(t, &app{}, "--local="+dir, "list", "-q", "--meta", "a=1")
	if status != exitOK || stdout != "sound00000000000\n" {
		t.Errorf("exit status %d, %q", status, stdout)
	}
}

// On a terminal a long list is written in pieces: one header, and columns that stay where they are.
func TestListOnTerminal(t *testing.T) {
	var rows [][]any
	for i := range 2*flowRows + 10 {
		rows = append(rows, []any{fmt.Sprintf("id%014d", i), "文書.txt", "text/plain", 1 << 20, nil, "2026-11-23T14:50:17", "2026-11-23T14:50:17", nil, nil})
	}
	dir := localStore(t, rows...)
	status, stdout, stderr := runApp(t, &app{stdoutTTY: true, stderrTTY: true}, "--local="+dir, "list")
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if status != exitOK || len(lines) != len(rows)+1 {
		t.Fatalf("exit status %d, %d lines for %d files", status, len(lines), len(rows))
	}
	if !strings.HasPrefix(lines[0], "ID                NAME      SIZE     TYPE        STATE      UPLOADED") {
		t.Errorf("header %q", lines[0])
	}
	column := strings.Index(lines[1], "text/plain")
	for i, line := range lines[1:] {
		if !strings.HasPrefix(line, rows[i][0].(string)) || strings.Index(line, "text/plain") != column {
			t.Fatalf("line %d is %q, after %q", i+1, line, lines[1])
		}
	}
	// On a busy machine it may have said how far it is.
	if want := "filestore: note: scanned the local store\n"; !strings.HasSuffix(stderr, want) {
		t.Errorf("standard error %q, want %q at its end", stderr, want)
	}
}

// chartOf draws some numbers, on a terminal of that width.
func chartOf(width int, env map[string]string) string {
	a := &app{columns: func() int { return width }, lookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	s := client.Stats{
		States: map[records.State]client.Count{
			records.Placeholder: {Files: 3}, records.Temporary: {Files: 12, Bytes: 1 << 20}, records.Stored: {Files: 1204, Bytes: 32 << 20},
		},
		Types: []client.TypeCount{
			{Type: "application/vnd.openxmlformats-officedocument.wordprocessingml.document", Count: client.Count{Files: 5, Bytes: 16 << 20}},
			{Type: "a/\x1b[31m", Count: client.Count{Files: 1, Bytes: 1}},
			{Count: client.Count{Files: 2}},
		},
		OtherTypes: client.Count{Files: 8, Bytes: 4 << 20},
		Earlier:    client.Count{Files: 1000, Bytes: 1 << 40},
		Undated:    1234,
	}
	for i := range client.StatsDays {
		s.Days = append(s.Days, client.DayCount{Day: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC).AddDate(0, 0, i-client.StatsDays+1)})
	}
	s.Days[27].Count, s.Days[29].Count = client.Count{Files: 4, Bytes: 1000}, client.Count{Files: 2, Bytes: 500}
	return a.chart(s)
}

func TestChart(t *testing.T) {
	for file, got := range map[string]string{
		"chart_80.txt":     chartOf(80, map[string]string{"TERM": "xterm", "LANG": "de_DE.UTF-8"}),
		"chart_dumb.txt":   chartOf(80, map[string]string{"TERM": "dumb"}),
		"chart_narrow.txt": chartOf(30, nil),
	} {
		path := filepath.Join("testdata", file)
		if flag.Lookup(updateFlag).Value.String() == "true" {
			if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
	// No locale is none that lacks block characters; C is one.
	if got := chartOf(80, map[string]string{"LANG": "C"}); got != chartOf(80, map[string]string{"TERM": "dumb"}) {
		t.Errorf("in the locale C:\n%s", got)
	}
	for line := range strings.Lines(chartOf(80, nil)) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 79 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}
