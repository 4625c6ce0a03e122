package metrics

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzOpen: whatever is in the file, the next one is whole, and its counters are numbers that went up.
func FuzzOpen(f *testing.F) {
	for _, s := range []string{"", "a 1\n", `a{label="x"} 5` + "\n", `a{label="x"} NaN` + "\n", `a{label="x"} -5` + "\n", `a{label="x"} +Inf` + "\n", `a{label="x"} 1e308` + "\n", "# TYPE a counter\n", "a\n", " \n", "\x00\xff 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "m.prom")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := Open(path, Label{"label", "x"})
		if err != nil {
			t.Fatal(err)
		}
		m.Counter("a", "help", 1)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := Open(path, Label{"label", "x"})
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := again.earlier[`a{label="x"}`]; !ok || math.IsNaN(v) || v < 1 || math.IsInf(v, 0) {
			t.Errorf("after %q the counter is %v", text, v)
		}
		if lines := strings.Count(again.Text(), "\n"); lines != 0 {
			t.Errorf("%d lines of what nobody has added", lines)
		}
	})
}
