package audit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzFile: whatever is in the file, a line is added behind it on a line of its own, and is found again.
func FuzzFile(f *testing.F) {
	for _, s := range []string{"", "\n", "{}", "null\n", `{"time":"2026-11-25T07:24:02.263Z","id":"h3ee0zavw7ieqbyr"`, `{"time":5,"id":[]}` + "\n", "\x00\xff", strings.Repeat("x", 70<<10)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		now := time.Date(2026, 11, 25, 7, 24, 2, 0, time.UTC)
		encode := func(v any) (string, error) { line, err := json.Marshal(v); return string(line), err }
		log, err := Open(path, Origin{}, encode, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Append(t.Context(), []Entry{{ID: "3p1xk0s9d2mfa7qz", Outcome: Begun}}); err != nil {
			t.Fatal(err)
		}
		written, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(written), text) {
			t.Fatalf("what was there has changed (%v)", err)
		}
		lines := strings.Split(strings.TrimSuffix(string(written), "\n"), "\n")
		if last := lines[len(lines)-1]; !json.Valid([]byte(last)) || !strings.Contains(last, "3p1xk0s9d2mfa7qz") {
			t.Errorf("the last line is %q", last)
		}
		if len(text) < searchBlock { // beyond it lines are looked for by their times, which must be in order
			if has, err := log.Has("3p1xk0s9d2mfa7qz", now.Add(-time.Hour)); err != nil || !has {
				t.Errorf("not found again (%v)", err)
			}
		}
	})
}
