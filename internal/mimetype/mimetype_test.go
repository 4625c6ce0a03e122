package mimetype_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"mime"
	"strconv"
	"strings"
	"testing"

	"github.com/designfultech/filestore/internal/mimetype"
)

func TestByName(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"notes.txt", "text/plain"},
		{"README.md", "text/markdown"},
		{"index.html", "text/html"},
		{"app.js", "text/javascript"},
		{"app.mjs", "text/javascript"},
		{"data.json", "application/json"},
		{"ci.yml", "application/yaml"},
		{"report.pdf", "application/pdf"},
		{"letter.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{"photo.jpg", "image/jpeg"},
		{"logo.svg", "image/svg+xml"},
		{"song.mp3", "audio/mpeg"},
		{"film.mkv", "video/matroska"},
		{"font.woff2", "font/woff2"},
		{"backup.zip", "application/zip"},
		{"backup.tar", "application/x-tar"},
		{"tool.deb", "application/vnd.debian.binary-package"},

		{"PHOTO.JPG", "image/jpeg"},
		{"backup.tar.gz", "application/gzip"},
		{"dir.d/report.pdf", "application/pdf"},
		{".json", "application/json"},
		{"日本語.png", "image/png"},

		{"", ""},
		{"Makefile", ""},
		{"report.pdf.", ""},
		{"report.pdf ", ""},
		{"txt", ""},
		{"dir.txt/file", ""},
		{"a.nosuchextension", ""},
		{"a." + strings.Repeat("x", 300), ""},
		// In use for different things: the content decides.
		{"main.ts", ""},
		{"server.key", ""},
	} {
		got, ok := mimetype.ByName(test.name)
		if got != test.want || ok != (test.want != "") {
			t.Errorf("ByName(%q): got %q, %v, want %q", test.name, got, ok, test.want)
		}
	}
}

func TestSniff(t *testing.T) {
	for _, test := range []struct{ what, head, want string }{
		{"PNG", "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "image/png"},
		{"PDF", "%PDF-1.7\n", "application/pdf"},
		{"HTML", "<!DOCTYPE html>\n<title>x</title>", "text/html"},
		{"gzip", "\x1f\x8b\x08\x00", "application/x-gzip"},
		{"ZIP", "PK\x03\x04\x14\x00", "application/zip"},
		{"text", "two words\n", "text/plain"},
		{"UTF-8", "日本語\n", "text/plain"},
		{"bytes", "\x00\x01\x02\x03", "application/octet-stream"},
		{"empty", "", "application/octet-stream"},
		{"text for 512 bytes", strings.Repeat("x", 512) + "\x00", "text/plain"},
		{"MPEG transport stream", transportStream(3), "video/mp2t"},
		{"two packets are no proof", transportStream(2), "application/octet-stream"},
		{"every packet starts alike", transportStream(2) + strings.Repeat("\x00", 188), "application/octet-stream"},
	} {
		t.Run(test.what, func(t *testing.T) {
			if got := mimetype.Sniff([]byte(test.head)); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestOf(t *testing.T) {
	const png = "\x89PNG\r\n\x1a\n"
	for _, test := range []struct{ what, name, head, want string }{
		{"the name goes first", "data.csv", "a,b\n1,2\n", "text/csv"},
		{"even where the content differs", "data.csv", png, "text/csv"},
		{"an empty file has a name too", "data.csv", "", "text/csv"},
		{"else the content", "photo", png, "image/png"},
		{"unknown extension", "photo.backup", png, "image/png"},
		{"a script without extension", "configure", "#!/bin/sh\n", "text/plain"},
		{"TypeScript", "main.ts", "export const x = 1\n", "text/plain"},
		{"video of the same extension", "film.ts", transportStream(3), "video/mp2t"},
		{"nothing known", "core", "\x7fELF\x02\x01", mimetype.Unknown},
		{"nothing at all", "", "", mimetype.Unknown},
	} {
		t.Run(test.what, func(t *testing.T) {
			if got := mimetype.Of(test.name, []byte(test.head)); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestTable reads the table from the source, since a switch can't be walked: ByName finds every
// extension, and every type is one, in lower case and without parameters. That no extension is
// there twice is the compiler's to say.
func TestTable(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "mimetype.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var extensions int
	typesSeen := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		clause, ok := n.(*ast.CaseClause)
		if !ok {
			return true
		}
		result := clause.Body[0].(*ast.ReturnStmt).Results[0]
		mimeType := unquote(t, result)
		essence, parameters, err := mime.ParseMediaType(mimeType)
		if err != nil || essence != mimeType || len(parameters) > 0 || !strings.Contains(mimeType, "/") {
			t.Errorf("%q is no MIME type in lower case without parameters: %v", mimeType, err)
		}
		for _, expression := range clause.List {
			extensions++
			ext := unquote(t, expression)
			if strings.ToLower(ext) != ext || strings.LastIndex(ext, ".") != 0 {
				t.Errorf("%q is not an extension in lower case", ext)
			}
			for _, name := range []string{"a" + ext, strings.ToUpper("a" + ext), "a.b" + ext} {
				if got, ok := mimetype.ByName(name); got != mimeType || !ok {
					t.Errorf("ByName(%q): got %q, %v, want %q", name, got, ok, mimeType)
				}
			}
			if other, ok := typesSeen[mimeType]; ok {
				t.Errorf("%s has a case of its own for the type of %s", ext, other)
			}
		}
		typesSeen[mimeType] = unquote(t, clause.List[0])
		return true
	})
	if extensions < 200 {
		t.Errorf("found %d extensions, want the whole table", extensions)
	}
}

// FuzzOf: whatever name and content, there is a type, and it is one without parameters.
func FuzzOf(f *testing.F) {
	f.Add("a.txt", []byte("text"))
	f.Add("a.TAR.GZ", []byte("\x1f\x8b\x08"))
	f.Add("main.ts", []byte(transportStream(3)))
	f.Add("..", []byte(nil))
	f.Add("\xff.\xff", []byte("<html>"))
	f.Fuzz(func(t *testing.T, name string, head []byte) {
		got := mimetype.Of(name, head)
		essence, parameters, err := mime.ParseMediaType(got)
		if err != nil || essence != got || len(parameters) > 0 || !strings.Contains(got, "/") {
			t.Errorf("Of(%q, %q): %q: %v", name, head, got, err)
		}
	})
}

// transportStream returns packets of an MPEG transport stream.
func transportStream(packets int) string {
	const stuffing = "\x47\x1f\xff\x10"
	return strings.Repeat(stuffing+strings.Repeat("\xff", 188-len(stuffing)), packets)
}

// unquote returns the value of a string literal.
func unquote(t *testing.T, expression ast.Expr) string {
	t.Helper()
	literal, ok := expression.(*ast.BasicLit)
	if !ok {
		t.Fatalf("the table holds something other than a string: %T", expression)
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
