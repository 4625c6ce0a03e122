package filename_test

import (
	"strings"
	"testing"

	"github.com/designfultech/filestore/internal/filename"
)

const id = "0123456789abcdef"

func TestSafe(t *testing.T) {
	for _, test := range []struct {
		what, name, want string
	}{
		{"plain", "report.pdf", "report.pdf"},
		{"spaces inside", "two words.txt", "two words.txt"},
		{"what a shell would expand is left to quoting", "a $(b) `c` 'd' & ~.txt", "a $(b) `c` 'd' & ~.txt"},
		{"japanese", "日本語.txt", "日本語.txt"},
		{"accent of its own", "cafe\u0301.txt", "cafe\u0301.txt"},
		{"emoji", "🎉.png", "🎉.png"},
		{"ideographic space", "東京\u3000大阪.txt", "東京\u3000大阪.txt"},

		{"path", "../../etc/passwd", "passwd"},
		{"path of Windows", `..\..\boot.ini`, "boot.ini"},
		{"absolute path", "/etc/passwd", "passwd"},
		{"drive", `C:\x`, "x"},
		{"file of a drive", `C:x`, "C_x"},
		{"share", `\\server\share\x`, "x"},
		{"mixed separators", `a/b\c`, "c"},
		{"directory", "a/b/", id},
		{"looks like a slash", "a\u2215b", "a\u2215b"},
		{"overlong slash", "..\xc0\xafetc", "____etc"},

		{"empty", "", id},
		{"dot", ".", id},
		{"dot dot", "..", id},
		{"dots", "...", id},
		{"dots and spaces", " . . ", id},
		{"white space", " \u00a0\u3000", id},

		{"hidden", ".bashrc", "_bashrc"},
		{"hidden behind a space", " .bashrc", "_bashrc"},
		{"hidden with more dots", "..a", "__a"},
		{"option", "-rf", "_rf"},
		{"option of two hyphens", "--help", "_-help"},
		{"hyphen inside", "a-b", "a-b"},
		{"trailing dots", "a.txt..", "a.txt"},
		{"trailing dots and spaces", "a.txt. . ", "a.txt"},
		{"leading spaces", "  a.txt", "a.txt"},

		{"quote", `a"; filename=b`, "a_; filename=b"},
		{"forbidden on Windows", `a<b>c:d"e|f?g*h`, "a_b_c_d_e_f_g_h"},
		{"stream of NTFS", "foo:bar", "foo_bar"},
		{"newline", "a\nb", "a_b"},
		{"header", "a\r\nX-Evil: yes", "a__X-Evil_ yes"},
		{"newline at the end", "a.txt\n", "a.txt_"},
		{"NUL", "a\x00b", "a_b"},
		{"escape sequence", "a\x1b[31mb", "a_[31mb"},
		{"DEL", "a\x7fb", "a_b"},
		{"C1 control", "a\u009bb", "a_b"},
		{"right-to-left override", "a\u202egpj.exe", "a_gpj.exe"},
		{"isolate", "\u2066a\u2069", "_a_"},
		{"line separator", "a\u2028b", "a_b"},
		{"paragraph separator", "a\u2029b", "a_b"},
		{"byte order mark", "\ufeffa", "_a"},
		{"zero-width space", "a\u200bb", "a_b"},
		{"zero-width joiner", "👨\u200d👩", "👨_👩"},
		{"blank letter", "\u3164", "_"},
		{"slash in private use", "a\uf02fb", "a_b"},
		{"no character", "a\uffffb", "a_b"},
		{"no UTF-8", "a\xff\xfeb", "a__b"},
		{"half a character", "a\xe6\x97", "a__"},
		{"replaced by others", "a\ufffdb", "a_b"},

		{"device", "con", "_con"},
		{"device with an extension", "NUL.txt", "_NUL.txt"},
		{"device with two extensions", "aux.tar.gz", "_aux.tar.gz"},
		{"device, space, extension", "COM1 .txt", "_COM1 .txt"},
		{"device, trailing dot", "PRN.", "_PRN"},
		{"device, superscript", "COM¹", "_COM¹"},
		{"device, printer", "lpt9.log", "_lpt9.log"},
		{"device, zero", "LPT0", "_LPT0"},
		{"device, console", "CONIN$", "_CONIN$"},
		{"device, console out", "conout$.txt", "_conout$.txt"},
		{"device behind a path", `\\.\NUL`, "_NUL"},
		{"no device", "COM10", "COM10"},
		{"no device, no number", "COM.txt", "COM.txt"},
		{"no device, other superscript", "COM⁴", "COM⁴"},
		{"no device, longer", "console.log", "console.log"},

		{"255 characters", strings.Repeat("x", 251) + ".txt", strings.Repeat("x", 251) + ".txt"},
		{"300 characters", strings.Repeat("x", 296) + ".txt", strings.Repeat("x", 251) + ".txt"},
		{"300 characters, no extension", strings.Repeat("x", 300), strings.Repeat("x", 255)},
		{"300 characters, two extensions", strings.Repeat("x", 300) + ".tar.gz", strings.Repeat("x", 248) + ".tar.gz"},
		{"nothing but an extension", "." + strings.Repeat("x", 300), "_" + strings.Repeat("x", 254)},
		{"long extension", "a." + strings.Repeat("x", 300), "a." + strings.Repeat("x", 253)},
		{"300 emoji", strings.Repeat("🎉", 300), strings.Repeat("🎉", 63)},
		{"300 emoji and an extension", strings.Repeat("🎉", 300) + ".png", strings.Repeat("🎉", 62) + ".png"},
		{"300 letters with accents", strings.Repeat("e\u0301\u0323", 300), strings.Repeat("e\u0301\u0323", 51)},
		{"300 thumbs up", strings.Repeat("👍🏽", 300), strings.Repeat("👍🏽", 31)},
		{"300 accents", strings.Repeat("\u0301", 300), strings.Repeat("\u0301", 127)},
		{"cut at a dot", strings.Repeat("x", 254) + ".y z", strings.Repeat("x", 254)},
		{"cut at a space", strings.Repeat("x", 250) + " yy.txt", strings.Repeat("x", 250) + ".txt"},
		{"cut down to a device", "CON" + strings.Repeat(" ", 300) + "x.txt", "_CON.txt"},
		{"300 dots and a letter", strings.Repeat(".", 300) + "a", strings.Repeat("_", 255)},
	} {
		t.Run(test.what, func(t *testing.T) {
			if got := filename.Safe(test.name, id); got != test.want {
				t.Errorf("Safe(%q)\n got %q\nwant %q", test.name, got, test.want)
			}
		})
	}
}

func TestDistinct(t *testing.T) {
	for _, test := range []struct {
		what, name, want string
	}{
		{"plain", "report.pdf", "report-" + id + ".pdf"},
		{"no extension", "Makefile", "Makefile-" + id},
		{"two extensions", "backup.tar.gz", "backup-" + id + ".tar.gz"},
		{"two extensions, upper case", "BACKUP.TAR.GZ", "BACKUP-" + id + ".TAR.GZ"},
		{"nothing before .tar", ".tar.gz", "_tar-" + id + ".gz"},
		{"dots that make no extension", "1. First chapter", "1. First chapter-" + id},
		{"hidden", ".bashrc", "_bashrc-" + id},
		{"empty", "", id + "-" + id},
		{"path", "../a.txt", "a-" + id + ".txt"},
		{"device", "NUL.txt", "_NUL-" + id + ".txt"},
		{"300 characters", strings.Repeat("x", 300) + ".txt", strings.Repeat("x", 234) + "-" + id + ".txt"},
		{"300 emoji", strings.Repeat("🎉", 300), strings.Repeat("🎉", 59) + "-" + id},
		{"cut at a space", strings.Repeat("x", 233) + " " + strings.Repeat("x", 60) + ".txt", strings.Repeat("x", 233) + "-" + id + ".txt"},
	} {
		t.Run(test.what, func(t *testing.T) {
			if got := filename.Distinct(test.name, id); got != test.want {
				t.Errorf("Distinct(%q)\n got %q\nwant %q", test.name, got, test.want)
			}
		})
	}
}

func TestFold(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"A.txt", "a.txt", true},
		{"ÉTÉ.TXT", "été.txt", true},
		{"straße", "STRAẞE", true},
		{"Kelvin", "\u212Aelvin", true}, // KELVIN SIGN
		{"ΣΑΣ", "σας", true},            // both small forms of sigma
		{"日本語", "日本語", true},
		{"straße", "STRASSE", false}, // full folding, which file systems don't do
		{"a.txt", "b.txt", false},
		{"a", "a ", false},
		{"é", "e\u0301", false}, // not normalized
	} {
		if got := filename.Fold(test.a) == filename.Fold(test.b); got != test.same {
			t.Errorf("%q and %q: the same is %v, want %v", test.a, test.b, got, test.same)
		}
	}
}
