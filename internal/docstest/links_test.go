package docstest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code    = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noWord  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestLinks looks for what the pages link to: files that are not there, and sections that are not on
// their page.
func TestLinks(t *testing.T) {
	for _, name := range pages(t) {
		text := code.ReplaceAllString(readPage(t, name), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file, section, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(target))); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			} else if section != "" && !sections(readPage(t, target))[section] {
				t.Errorf("%s links to %s: there is no such section", name, m[1])
			}
		}
	}
}

// sections are the anchors of a page's headings, as GitHub names them. (Of several with one text it
// numbers all but the first; no page has such.)
func sections(page string) map[string]bool {
	found := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		text := noWord.ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(text, " ", "-")] = true
	}
	return found
}

// TestIndex looks for each page of docs/ in the index.
func TestIndex(t *testing.T) {
	index := readPage(t, "docs/README.md")
	for _, name := range pages(t) {
		dir, file := path.Split(name)
		if dir == "docs/" && file != "README.md" && !strings.Contains(index, "]("+file) {
			t.Errorf("docs/README.md does not name %s", file)
		}
	}
}
