package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/audit"
	"github.com/designfultech/filestore/internal/state"
)

func noon() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 7e6, time.UTC) }

func encode(v any) (string, error) {
	line, err := json.Marshal(v)
	return string(line), err
}

func open(t *testing.T, path string, now func() time.Time) *audit.Log {
	t.Helper()
	l, err := audit.Open(path, audit.Origin{Bucket: "my-files", Table: "Files", Command: "expire", User: "cron", Host: "db1", PID: 17}, encode, now)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// A line for each deletion, and another one where it failed. A line that broke off does not swallow
// the next.
func TestAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := open(t, path, noon)
	err := l.Append(t.Context(), []audit.Entry{
		{ID: "aaaaaaaaaaaaaaaa", Name: "a.txt", Size: new(int64(2)), Type: "text/plain", Action: "expire", Outcome: audit.Begun},
		{ID: "bbbbbbbbbbbbbbbb", Name: "b.txt", Action: "abandon", Outcome: audit.Begun},
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time":"2026-`); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	err = l.Append(t.Context(), []audit.Entry{{ID: "bbbbbbbbbbbbbbbb", Name: "b.txt", Action: "abandon", Outcome: audit.Failed, Error: "denied"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"time":"2026-11-25T12:00:00.007Z","id":"aaaaaaaaaaaaaaaa","name":"a.txt","size":2,"type":"text/plain","action":"expire","outcome":"begun",` +
			`"bucket":"my-files","table":"Files","command":"expire","user":"cron","host":"db1","pid":17}`,
		`{"time":"2026-11-25T12:00:00.007Z","id":"bbbbbbbbbbbbbbbb","name":"b.txt","action":"abandon","outcome":"begun",` +
			`"bucket":"my-files","table":"Files","command":"expire","user":"cron","host":"db1","pid":17}`,
		`{"time":"2026-`,
		`{"time":"2026-11-25T12:00:00.007Z","id":"bbbbbbbbbbbbbbbb","name":"b.txt","action":"abandon","outcome":"failed","error":"denied",` +
			`"bucket":"my-files","table":"Files","command":"expire","user":"cron","host":"db1","pid":17}`,
	}
	if diff := cmp.Diff(want, lines(t, path)); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("the mode is %v (%v)", info.Mode(), err)
	}
}

// Several writers never mix their lines.
func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	const writers, writes = 8, 20
	var running sync.WaitGroup
	for w := range writers {
		l := open(t, path, noon)
		running.Go(func() {
			for i := range writes {
				var entries []audit.Entry
				for k := range 10 {
					entries = append(entries, audit.Entry{ID: fmt.Sprintf("%016d", w*1000+i*10+k), Name: strings.Repeat("x", 1000)})
				}
				if err := l.Append(t.Context(), entries); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	seen := make(map[string]bool)
	for _, line := range lines(t, path) {
		var e audit.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		seen[e.ID] = true
	}
	if len(seen) != writers*writes*10 {
		t.Errorf("%d lines, want %d", len(seen), writers*writes*10)
	}
}

// A file that somebody else keeps locked holds up no command that has been ended.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := open(t, path, noon)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if locked, err := state.TryLock(f); err != nil || !locked {
		t.Fatal(locked, err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := l.Append(ctx, []audit.Entry{{ID: "aaaaaaaaaaaaaaaa"}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	if got := lines(t, path); len(got) != 1 || got[0] != "" {
		t.Errorf("written without the lock: %q", got)
	}
}

// What has a line since a time is found, by the process that wrote it and by the next, in a file of
// years as well, and with lines in it that are none.
func TestHas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	var now time.Time
	writer := open(t, path, func() time.Time { return now })
	const hours = 1000
	id := func(hour int) string { return fmt.Sprintf("%016d", hour) }
	for hour := range hours {
		now = noon().Add(time.Duration(hour) * time.Hour)
		if err := writer.Append(t.Context(), []audit.Entry{{ID: id(hour), Name: strings.Repeat("n", hour)}}); err != nil {
			t.Fatal(err)
		}
		if hour%100 == 0 {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("no line of ours\n{\"time\":\"2026-\n"); err != nil || f.Close() != nil {
				t.Fatal(err)
			}
		}
	}
	for _, ago := range []int{0, 1, 24, 300, 700, hours} {
		since := noon().Add(time.Duration(hours-ago) * time.Hour)
		reader := open(t, path, noon)
		for hour := range hours {
			got, err := reader.Has(id(hour), since)
			if err != nil {
				t.Fatal(err)
			}
			if want := hour >= hours-ago; got != want {
				t.Fatalf("%d hours ago: Has of hour %d is %t", ago, hour, got)
			}
		}
		if got, _ := reader.Has("aaaaaaaaaaaaaaaa", since); got {
			t.Error("something is known that is not there")
		}
	}
	// Its own lines count from then on.
	since := noon().Add(hours * time.Hour)
	if got, _ := writer.Has("aaaaaaaaaaaaaaaa", since); got {
		t.Error("something is known that is not there")
	}
	if err := writer.Append(t.Context(), []audit.Entry{{ID: "aaaaaaaaaaaaaaaa"}}); err != nil {
		t.Fatal(err)
	}
	if got, _ := writer.Has("aaaaaaaaaaaaaaaa", since); !got {
		t.Error("a line of this process is not known")
	}
}

// What can't keep a line is refused before anything is deleted, and a file that was rotated away is
// begun anew.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, os.DevNull, filepath.Join(dir, "none", "audit.jsonl")} {
		if _, err := audit.Open(path, audit.Origin{}, encode, noon); err == nil {
			t.Errorf("%q is taken", path)
		}
	}
	path := filepath.Join(dir, "audit.jsonl")
	l := open(t, path, noon)
	for range 2 {
		if err := l.Append(t.Context(), []audit.Entry{{ID: "aaaaaaaaaaaaaaaa"}}); err != nil {
			t.Fatal(err)
		}
		if got := lines(t, path); len(got) != 1 {
			t.Errorf("%q", got)
		}
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
	}
}
