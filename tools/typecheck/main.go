// Command typecheck has Go's type checker look at all packages of the project and their tests as they are on other
// platforms. "go vet" does that too, but compiles everything they import for each platform first, which takes longer
// than all the rest of it; here that is read from its source, without the bodies of functions.
//
//	go -C tools run ./typecheck windows/amd64 darwin/arm64
package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: go -C tools run ./typecheck GOOS/GOARCH...")
		os.Exit(2)
	}
	for _, platform := range os.Args[1:] {
		if err := check(platform); err != nil {
			fmt.Fprintf(os.Stderr, "typecheck: %s: %v\n", platform, err)
			os.Exit(1)
		}
	}
}

func check(platform string) error {
	root, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	system, processor, _ := strings.Cut(platform, "/")
	found, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports | packages.NeedDeps |
			packages.NeedTypes | packages.NeedSyntax,
		Dir:   root,
		Env:   append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+processor),
		Tests: true,
		ParseFile: func(files *token.FileSet, name string, text []byte) (*ast.File, error) {
			file, err := parser.ParseFile(files, name, text, parser.SkipObjectResolution)
			if file != nil && !strings.HasPrefix(name, root+string(filepath.Separator)) {
				for _, d := range file.Decls {
					if f, ok := d.(*ast.FuncDecl); ok {
						f.Body = nil
					}
				}
			}
			return file, err
		},
	}, "./...")
	if err != nil {
		return err
	}
	var all []error
	for _, p := range found {
		if strings.HasSuffix(p.PkgPath, ".test") {
			continue // the main package that Go makes for tests, whose body went as those of other packages
		}
		for _, e := range p.Errors {
			all = append(all, e)
		}
	}
	if len(found) == 0 || len(all) > 0 {
		return fmt.Errorf("%d packages, %d errors: %w", len(found), len(all), errors.Join(all...))
	}
	fmt.Printf("%s: %d packages and tests\n", platform, len(found))
	return nil
}
