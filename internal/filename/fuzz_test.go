package filename_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/designfultech/filestore/internal/filename"
)

// hostile are names that somebody might try.
func hostile() []string {
	return []string{
		"", ".", "..", "...", ". .", "a.txt", ".bashrc", "-rf", "../../etc/passwd", `..\..\boot.ini`, `C:\x`, "foo:bar",
		`a"; filename=b`, "日本語.txt", "a\nb", "a\x00b", "a\u202egpj.exe", "a\u2028b", "\xff\xfe", "a\ufffdb", "\x1b[31m",
		"con", "NUL.txt", "COM1 .txt", "lpt¹.x", "CONIN$", "CON" + strings.Repeat(" ", 300) + ".x", "a.txt. . ", "\u00a0.a",
		"a.tar.gz", strings.Repeat("x", 300), "." + strings.Repeat("x", 300), "a." + strings.Repeat("x", 300),
		strings.Repeat("x", 240) + ".tar.gz", strings.Repeat("🎉", 300), strings.Repeat("\u0301", 300), strings.Repeat(". ", 200) + "x",
		strings.Repeat("x", 238) + " .txt", strings.Repeat("é", 130) + ".é é",
	}
}

// FuzzSafe: whatever a record holds as name, the file gets a harmless one, and exactly that one.
func FuzzSafe(f *testing.F) {
	for _, name := range hostile() {
		f.Add(name)
	}
	root := openRoot(f)
	f.Fuzz(func(t *testing.T, name string) {
		got := filename.Safe(name, id)
		checkSafe(t, got)
		checkCreates(t, root, got)
	})
}

// FuzzDistinct: the second file of a name gets a harmless name as well, another than the first,
// and no other file's.
func FuzzDistinct(f *testing.F) {
	const otherID = "abcdefghijklmnop"
	for _, name := range hostile() {
		f.Add(name, name)
		f.Add(name, name+"-"+id)
		f.Add(name, otherID+".txt")
		f.Add(name, strings.ToUpper(name))
	}
	root := openRoot(f)
	f.Fuzz(func(t *testing.T, name, otherName string) {
		got := filename.Distinct(name, id)
		checkSafe(t, got)
		checkCreates(t, root, got)
		if first := filename.Safe(name, id); filename.Fold(got) == filename.Fold(first) {
			t.Errorf("Distinct gives the same file as Safe: %q, %q", got, first)
		}
		if other := filename.Distinct(otherName, otherID); filename.Fold(got) == filename.Fold(other) {
			t.Errorf("two ids get the same file: %q, %q", got, other)
		}
	})
}

// FuzzFold: the keys of two names are equal exactly where the names differ in case alone.
func FuzzFold(f *testing.F) {
	for _, name := range hostile() {
		f.Add(name, strings.ToUpper(name))
		f.Add(name, name+"x")
	}
	f.Add("\u212A ſ ς ẞ", "k s Σ ß")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, pair := range [][2]string{{a, b}, {a, strings.ToUpper(a)}, {a, strings.ToLower(a)}, {a, filename.Fold(a)}} {
			same := filename.Fold(pair[0]) == filename.Fold(pair[1])
			if want := strings.EqualFold(pair[0], pair[1]); same != want {
				t.Errorf("%q and %q: the same is %v, want %v", pair[0], pair[1], same, want)
			}
		}
	})
}

// checkSafe fails unless name has every quality of a safe name.
func checkSafe(t *testing.T, name string) {
	t.Helper()
	if name == "" || len(name) > 255 {
		t.Errorf("%q has %d bytes", name, len(name))
	}
	if !utf8.ValidString(name) {
		t.Errorf("%q is not UTF-8", name)
	}
	if !filepath.IsLocal(name) || filepath.Base(name) != name {
		t.Errorf("%q is not the name of a file in this directory", name)
	}
	if strings.ContainsAny(name, `/\<>:"|?*`) {
		t.Errorf("%q holds a forbidden character", name)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		t.Errorf("%q is not printable", name)
	}
	if strings.TrimSpace(name) != name || strings.HasSuffix(name, ".") {
		t.Errorf("%q: white space around it, or a dot at its end", name)
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") {
		t.Errorf("%q is hidden, or an option", name)
	}
	base, _, _ := strings.Cut(name, ".")
	for _, device := range []string{"con", "prn", "aux", "nul", "com0", "com1", "lpt9", "com²", "conin$", "conout$"} {
		if strings.EqualFold(strings.TrimRight(base, " "), device) {
			t.Errorf("%q is a device", name)
		}
	}
	if again := filename.Safe(name, "another000000000"); again != name {
		t.Errorf("made safe again, %q becomes %q", name, again)
	}
}

// openRoot opens an empty directory.
func openRoot(f *testing.F) *os.Root {
	f.Helper()
	root, err := os.OpenRoot(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = root.Close() })
	return root
}

// checkCreates fails unless a new file of that name is, under the same name, all that is in
// root; then it removes the file.
func checkCreates(t *testing.T, root *os.Root, name string) {
	t.Helper()
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(root.Name())
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("created %q, found %v", name, entries)
	}
	if err := root.Remove(name); err != nil {
		t.Fatal(err)
	}
}
