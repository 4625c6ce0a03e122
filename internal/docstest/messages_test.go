package docstest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const troubleshooting = "docs/troubleshooting.md"

// TestTroubleshooting compares the page with the code, in both directions: each hint that the program
// can give is on it, and each message in the first column of its tables is one of the program's.
func TestTroubleshooting(t *testing.T) {
	page := readPage(t, troubleshooting)
	hints := hintsOf(t)
	if len(hints) < 40 {
		t.Fatalf("only %d hints are found: has the code that makes them changed?", len(hints))
	}
	for _, hint := range hints {
		if !strings.Contains(page, "`"+hint+"`") {
			t.Errorf("%s does not have the hint `%s`", troubleshooting, hint)
		}
	}
	messages := messagesOf(page)
	if len(messages) < 40 {
		t.Fatalf("only %d messages are found: are they still in the first columns of tables?", len(messages))
	}
	t.Logf("%d hints, %d messages", len(hints), len(messages))
	literals := slices.Collect(literalsOf(t))
	for _, message := range messages {
		if !slices.ContainsFunc(literals, func(literal string) bool { return says(literal, message) }) {
			t.Errorf("%s explains %q, which the code does not say", troubleshooting, message)
		}
	}
}

// says reports whether a string literal of the code may make that message, in which "…" stands for what
// is put in.
func says(literal, message string) bool {
	for part := range strings.SplitSeq(message, "…") {
		_, rest, found := strings.Cut(literal, strings.Trim(part, ` ":`))
		if !found {
			return false
		}
		literal = rest
	}
	return true
}

func TestSays(t *testing.T) {
	for _, test := range []struct {
		literal, message string
		want             bool
	}{
		{"%q exists already", `"…" exists already`, true},
		{"table %q: %w", "table …: …", true},
		{"the server sent %q", "the server said …", false},
		{"b then a", "a … b", false},
	} {
		if got := says(test.literal, test.message); got != test.want {
			t.Errorf("%q of %q: %v", test.message, test.literal, got)
		}
	}
}

var firstColumn = regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|")

// messagesOf are the messages in the first columns of a page's tables. There may be several, with "<br>"
// between them.
func messagesOf(page string) []string {
	var found []string
	for _, m := range firstColumn.FindAllStringSubmatch(page, -1) {
		for text := range strings.SplitSeq(m[1], "<br>") {
			found = append(found, strings.Trim(text, "` "))
		}
	}
	return found
}

// sources parses the code of the program, without its tests.
func sources(t *testing.T, dir string) []*ast.File {
	t.Helper()
	var files []*ast.File
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		files = append(files, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// literalsOf yields the string literals of the program.
func literalsOf(t *testing.T) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, dir := range []string{"cmd/filestore", "internal"} {
			for _, file := range sources(t, dir) {
				for n := range ast.Preorder(file) {
					if text, ok := literal(n); ok && !yield(text) {
						return
					}
				}
			}
		}
	}
}

func literal(n ast.Node) (string, bool) {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// hintsOf finds what the program hints at: the first arguments of usagef, the fields "hint" of errors, what
// the functions hintFor and hint return, and the constants that are used for these. What is put in is "…".
func hintsOf(t *testing.T) []string {
	t.Helper()
	var found []string
	files := sources(t, "cmd/filestore")
	constants := make(map[string]ast.Expr)
	for _, file := range files {
		for n := range ast.Preorder(file) {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for i, value := range spec.Values {
					constants[spec.Names[i].Name] = value
				}
			}
		}
	}
	var textOf func(ast.Expr) string
	textOf = func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.BasicLit:
			text, _ := literal(e)
			return placeholder.ReplaceAllString(text, "…")
		case *ast.BinaryExpr:
			return textOf(e.X) + textOf(e.Y)
		case *ast.Ident:
			if constant, ok := constants[e.Name]; ok {
				return textOf(constant)
			}
		case *ast.CallExpr: // fmt.Sprintf(FORMAT, …)
			if len(e.Args) > 0 {
				return textOf(e.Args[0])
			}
		}
		return "…"
	}
	add := func(e ast.Expr) {
		if text := textOf(e); strings.Trim(text, "… ") != "" {
			found = append(found, text)
		}
	}
	for _, file := range files {
		for n := range ast.Preorder(file) {
			switch n := n.(type) {
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "usagef" {
					add(n.Args[0])
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "hint" {
					add(n.Value)
				}
			case *ast.FuncDecl:
				if n.Name.Name != "hintFor" && n.Name.Name != "hint" || n.Type.Results == nil {
					continue
				}
				for n := range ast.Preorder(n.Body) {
					if r, ok := n.(*ast.ReturnStmt); ok {
						add(r.Results[0])
					}
				}
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

var placeholder = regexp.MustCompile(`%[dqsvw]`)
