package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/designfultech/filestore/internal/policy"
)

// TestOperations compares the table of operations with the calls in the code of the program: each
// call of the SDK is of an operation in the table, and each operation in it is called.
func TestOperations(t *testing.T) {
	called := calls(t)
	known := policy.Called(policy.Admin)
	for _, op := range slices.Sorted(maps.Keys(called)) {
		if !slices.Contains(known, op) {
			service, name, _ := strings.Cut(op, " ")
			t.Errorf(`%s calls %s, and no policy allows it.
Add a line to operations() in internal/policy/operations.go:
	{%s, %q, …, []Role{…}},
with the actions that it needs (Service Authorization Reference, "Actions, resources, and condition keys for Amazon %s") and the
roles whose commands call it (administrators may always). Then have a command that calls it run in TestPolicies of cmd/filestore.`,
				called[op], op, service, name, service)
		}
	}
	for _, op := range known {
		if called[op] == "" {
			t.Errorf("operations() in internal/policy/operations.go has %q, which the code does not call: take the line away", op)
		}
	}
}

// TestCallsFindsThem shows that calls finds an operation however it is called.
func TestCallsFindsThem(t *testing.T) {
	found := calls(t)
	for op, how := range map[string]string{
		"S3 HeadObject":           "a method of the client",
		"S3 ListMultipartUploads": "a paginator",
		"DynamoDB UpdateItem":     "a method of an interface of our own",
	} {
		if found[op] == "" {
			t.Errorf("%s: not found, though called by %s", op, how)
		}
	}
}

// goPackage is what "go list" says of a package.
type goPackage struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Export     string // file with its types
	ImportMap  map[string]string
	Module     *struct{ Main bool }
}

// calls returns the operations of S3 and DynamoDB that the program calls, each as "SERVICE
// OPERATION", and where one of the calls is.
func calls(t *testing.T) map[string]string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-export",
		"-json=ImportPath,Dir,GoFiles,Export,ImportMap,Module", "./cmd/filestore")
	cmd.Dir = root
	var complaints strings.Builder
	cmd.Stderr = &complaints
	list, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &complaints)
	}
	exports := make(map[string]string)
	var own []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(list))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if p.Module != nil && p.Module.Main {
			own = append(own, p)
		}
	}
	if len(own) < 5 {
		t.Fatalf("go list finds %d packages of the program", len(own))
	}

	files := token.NewFileSet()
	found := make(map[string]string)
	for _, p := range own {
		config := types.Config{Importer: importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) {
			if mapped := p.ImportMap[path]; mapped != "" {
				path = mapped
			}
			return os.Open(exports[path])
		})}
		var parsed []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, f)
		}
		info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
		if _, err := config.Check(p.ImportPath, files, parsed, info); err != nil {
			t.Fatal(err)
		}
		for ident, object := range info.Uses {
			f, ok := object.(*types.Func)
			if !ok {
				continue
			}
			if op := operationOf(f); op != "" {
				at := files.Position(ident.Pos())
				path, err := filepath.Rel(root, at.Filename)
				if err != nil {
					t.Fatal(err)
				}
				found[op] = fmt.Sprintf("%s:%d", filepath.ToSlash(path), at.Line)
			}
		}
	}
	return found
}

// operationOf returns the operation that a function calls, "" where it calls none: of the SDK's
// services it takes the input of one. It is a function of the SDK, such as a method of a client
// or a paginator's constructor, or takes options of the SDK, as methods of interfaces for it do.
func operationOf(f *types.Func) string {
	signature, ok := f.Type().(*types.Signature)
	if !ok {
		return ""
	}
	var service, name string
	ofSDK := f.Pkg() != nil && serviceOf(f.Pkg()) != ""
	for v := range signature.Params().Variables() {
		switch of := v.Type().(type) {
		case *types.Pointer:
			if named, ok := of.Elem().(*types.Named); ok && serviceOf(named.Obj().Pkg()) != "" {
				if op, ok := strings.CutSuffix(named.Obj().Name(), "Input"); ok {
					service, name = serviceOf(named.Obj().Pkg()), op
				}
			}
		case *types.Slice: // …func(*s3.Options)
			option, ok := of.Elem().(*types.Signature)
			if !ok || option.Params().Len() != 1 {
				continue
			}
			if p, ok := option.Params().At(0).Type().(*types.Pointer); ok {
				if named, ok := p.Elem().(*types.Named); ok && serviceOf(named.Obj().Pkg()) != "" {
					ofSDK = true
				}
			}
		}
	}
	if name == "" || !ofSDK {
		return ""
	}
	return service + " " + name
}

func serviceOf(p *types.Package) string {
	if p == nil {
		return ""
	}
	return map[string]string{
		"github.com/aws/aws-sdk-go-v2/service/s3":       policy.S3,
		"github.com/aws/aws-sdk-go-v2/service/dynamodb": policy.DynamoDB,
	}[p.Path()]
}
