package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What SECURITY.md says is shown by tests, which have to be there.
func TestSecurityNamesTests(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root:
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			source, err := os.ReadFile(path)
			code.Write(source)
			return err
		case strings.HasSuffix(path, ".txtar"):
			code.WriteString(d.Name() + "\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	api, page, _ := strings.Cut(string(text), "## The HTTP API and the page")
	sections := []string{api}
	if found, _ := filepath.Glob(filepath.Join(root, "internal", "page", "*_test.go")); len(found) > 0 {
		sections = append(sections, page)
	}
	names := 0
	for _, section := range sections {
		for _, match := range regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z]+|[a-z_]+\\.txtar)`").FindAllStringSubmatch(section, -1) {
			names++
			if name := match[1]; !strings.Contains(code.String(), "\nfunc "+name+"(") && !strings.Contains(code.String(), name+"\n") {
				t.Errorf("SECURITY.md names %s, which is not there", name)
			}
		}
	}
	if names < 30 {
		t.Errorf("SECURITY.md names %d tests only", names)
	}
}
