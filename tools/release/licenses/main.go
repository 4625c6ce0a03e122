// Command licenses looks at the licence of every module whose code is in the released program, on any
// of its platforms. It fails where one has none that is allowed, or where the list in
// docs/dependencies.md is not that of today. Run it in this module:
//
//	go -C tools/release run ./licenses                    # compare
//	go -C tools/release run ./licenses -update            # write docs/dependencies.md
//	go -C tools/release run ./licenses -texts FILE        # and the texts, for the archives
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/licensecheck"
	"github.com/goreleaser/goreleaser/v2/pkg/config"
)

const (
	root     = "../.."
	list     = "docs/dependencies.md"
	minMatch = 75 // percent of a file that must be the text of known licences

	// lambdaSummary is of aws-lambda-go: it tells which of the licences beside it, which are looked at by themselves, is of what.
	lambdaSummary = "Lambda functions are made available under a modified MIT license."

	// sqliteDedication is of SQLite, whose text is no licence that others use.
	sqliteDedication = "All of the code and documentation in SQLite has been dedicated to the public"
)

// allowed are the licences that code in the program may have, by their SPDX names: those that ask for
// no more than that their text and notices come along, and MPL-2.0, which asks besides that changes of
// its files are published. Nothing here changes any.
func allowed() []string {
	return []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "MPL-2.0", "Unlicense", "Zlib"}
}

// platforms are those that are released: what is linked differs.
func platforms() (all [][2]string, err error) {
	project, err := config.Load(filepath.Join(root, "goreleaser.yaml"))
	if err != nil {
		return nil, fmt.Errorf("goreleaser.yaml: %w", err)
	}
	for _, b := range project.Builds {
		for _, system := range b.Goos {
			for _, arch := range b.Goarch {
				all = append(all, [2]string{system, arch})
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("goreleaser.yaml names no goos or no goarch")
	}
	return all, nil
}

// module is one whose code is linked.
type module struct {
	path, version, dir string
	packages           map[string]bool // directories with linked code
	licenses           []string
	texts              map[string]string // by file
}

func main() {
	update := flag.Bool("update", false, "write "+list)
	texts := flag.String("texts", "", "write the texts of all licences and notices to `FILE`")
	flag.Parse()
	if err := run(*update, *texts); err != nil {
		fmt.Fprintf(os.Stderr, "licenses: %v\n", err)
		os.Exit(1)
	}
}

func run(update bool, texts string) error {
	modules, err := linked()
	if err != nil {
		return err
	}
	var problems []error
	for _, m := range modules {
		if err := m.read(); err != nil {
			problems = append(problems, err)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	if texts != "" {
		if err := os.WriteFile(texts, allTexts(modules), 0o644); err != nil {
			return err
		}
	}
	path := filepath.Join(root, list)
	want := table(modules)
	if update {
		return os.WriteFile(path, want, 0o644)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s is not what is linked today; write it with go -C tools/release run ./licenses -update", list)
	}
	fmt.Printf("%d modules, all with licences that are allowed\n", len(modules))
	return nil
}

// linked returns the modules in the program, and the standard library as one.
func linked() ([]*module, error) {
	all := make(map[string]*module)
	goroot, err := command(nil, "go", "env", "GOROOT", "GOVERSION")
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(goroot)), "\n")
	all[""] = &module{path: "Go's standard library", version: lines[1], dir: lines[0]}
	platforms, err := platforms()
	if err != nil {
		return nil, err
	}
	for _, platform := range platforms {
		out, err := command([]string{"GOOS=" + platform[0], "GOARCH=" + platform[1], "CGO_ENABLED=0"},
			"go", "list", "-deps", "-json=Dir,Module", "./cmd/filestore")
		if err != nil {
			return nil, err
		}
		for dec := json.NewDecoder(bytes.NewReader(out)); ; {
			var p struct {
				Dir    string
				Module *struct {
					Path, Version, Dir string
					Main               bool
					Replace            *struct{ Path, Version string }
				}
			}
			if err := dec.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, err
			}
			if p.Module == nil || p.Module.Main {
				continue
			}
			if p.Module.Replace != nil {
				return nil, fmt.Errorf("%s is replaced: look at the licence of what takes its place", p.Module.Path)
			}
			m := all[p.Module.Path]
			if m == nil {
				m = &module{path: p.Module.Path, version: p.Module.Version, dir: p.Module.Dir, packages: make(map[string]bool)}
				all[p.Module.Path] = m
			}
			m.packages[p.Dir] = true
		}
	}
	modules := make([]*module, 0, len(all))
	for _, m := range all {
		modules = append(modules, m)
	}
	slices.SortFunc(modules, func(a, b *module) int { return strings.Compare(a.path, b.path) })
	return modules, nil
}

func command(environ []string, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), environ...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return out, nil
}

// read finds the licences of a module: in its root, and in the directories of what is linked, up to it.
// Some bring code of others along, which has its own licence there.
func (m *module) read() error {
	m.texts = make(map[string]string)
	dirs := map[string]bool{m.dir: true}
	for dir := range m.packages {
		for ; dir != m.dir && strings.HasPrefix(dir, m.dir); dir = filepath.Dir(dir) {
			dirs[dir] = true
		}
	}
	var found []string
	for dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			license, notice := kind(e.Name())
			if e.IsDir() || !license && !notice {
				continue
			}
			path := filepath.Join(dir, e.Name())
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(m.dir, path)
			if err != nil {
				return err
			}
			m.texts[filepath.ToSlash(name)] = string(text)
			if !license {
				continue
			}
			ids, err := identify(text, minimum(e.Name()))
			if err != nil {
				return fmt.Errorf("%s %s: %s: %w", m.path, m.version, name, err)
			}
			found = append(found, ids...)
		}
	}
	if len(found) == 0 {
		return fmt.Errorf("%s %s has no licence", m.path, m.version)
	}
	slices.Sort(found)
	m.licenses = slices.Compact(found)
	return nil
}

// minimum is how many percent of a file must be the text of known licences. A list of what others have
// written explains more than that.
func minimum(name string) float64 {
	if strings.Contains(strings.ToUpper(name), "3RD-PARTY") || strings.Contains(strings.ToUpper(name), "THIRD") {
		return 0
	}
	return minMatch
}

// kind tells by its name whether a file is a licence or a notice.
func kind(name string) (license, notice bool) {
	name = strings.ToUpper(name)
	if strings.HasSuffix(name, ".GO") || strings.HasSuffix(name, "-LOGO") { // pictures are not linked
		return false, false
	}
	return strings.HasPrefix(name, "LICEN") || strings.HasPrefix(name, "COPYING") || strings.HasPrefix(name, "UNLICENSE"),
		strings.HasPrefix(name, "NOTICE") || strings.HasPrefix(name, "PATENTS")
}

// identify names the licences in a text, which must be all allowed.
func identify(text []byte, minimum float64) ([]string, error) {
	if bytes.Contains(text, []byte(sqliteDedication)) {
		return []string{"public domain"}, nil
	}
	if bytes.Contains(text, []byte(lambdaSummary)) {
		return nil, nil
	}
	coverage := licensecheck.Scan(text)
	if coverage.Percent < minimum {
		return nil, fmt.Errorf("only %.0f %% of it is the text of licences that are known; look at it, and say so in tools/release/licenses", coverage.Percent)
	}
	var ids []string
	for _, match := range coverage.Match {
		if match.IsURL {
			continue
		}
		if !slices.Contains(allowed(), match.ID) {
			return nil, fmt.Errorf("the licence is %s, which is not allowed", match.ID)
		}
		ids = append(ids, match.ID)
	}
	return ids, nil
}

// table is docs/dependencies.md. Versions are in go.mod, and change too often to be in two places.
func table(modules []*module) []byte {
	var p bytes.Buffer
	fmt.Fprintf(&p, `<!-- Written by go -C tools/release run ./licenses -update; do not edit. -->

# Dependencies and their licences

What is linked into the released program on any of its platforms: %d modules. Each archive and package has the texts of their licences and their
notices in THIRD_PARTY_LICENSES.txt. CI fails for a module without one of these licences: %s.
None of the files under MPL-2.0 is changed; their source is that of the module, at the version in go.mod.

| module | licence |
| --- | --- |
`, len(modules), strings.Join(allowed(), ", "))
	for _, m := range modules {
		fmt.Fprintf(&p, "| %s | %s |\n", m.path, strings.Join(m.licenses, ", "))
	}
	return p.Bytes()
}

// allTexts is what the licences ask to come along: every text once, with the modules that it is of.
func allTexts(modules []*module) []byte {
	var p bytes.Buffer
	p.WriteString("filestore contains code of the modules below. These are their licences and notices.\n")
	of := make(map[string][]string)
	var order []string
	for _, m := range modules {
		files := make([]string, 0, len(m.texts))
		for file := range m.texts {
			files = append(files, file)
		}
		slices.Sort(files)
		for _, file := range files {
			text := m.texts[file]
			if of[text] == nil {
				order = append(order, text)
			}
			of[text] = append(of[text], fmt.Sprintf("%s %s: %s", m.path, m.version, file))
		}
	}
	for _, text := range order {
		p.WriteString("\n" + strings.Repeat("=", 80) + "\n" + strings.Join(of[text], "\n") + "\n" + strings.Repeat("-", 80) + "\n\n" + strings.TrimSpace(text) + "\n")
	}
	return p.Bytes()
}
