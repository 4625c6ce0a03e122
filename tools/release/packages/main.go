// Command packages reads goreleaser.yaml as GoReleaser does, which refuses what it doesn't know, and
// makes from it what can be made and tried on one machine: the program for this architecture, and its
// packages for Linux. It stands in for GoReleaser in .ci/run: that takes minutes to build, this seconds. What
// it does not do is expand templates, fill in defaults, and all that comes after the packages.
//
//	go -C tools/release run ./packages OUT
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/goreleaser/goreleaser/v2/pkg/config"
	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/apk" // formats
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

const (
	root = "../.."
	// version is what packages are of that nobody gets.
	version = "0.0.0-ci"
)

// builtAt stands for the time of the commit, which all files in the packages have.
func builtAt() time.Time { return time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC) }

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "packages: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: go -C tools/release run ./packages OUT")
	}
	out, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	project, err := config.Load("goreleaser.yaml")
	if err != nil {
		return fmt.Errorf("goreleaser.yaml: %w", err)
	}
	if err := check(project); err != nil {
		return fmt.Errorf("goreleaser.yaml: %w", err)
	}
	program := filepath.Join(out, "filestore")
	if err := build(project.Builds[0], program); err != nil {
		return err
	}
	n := project.NFPMs[0]
	for _, format := range n.Formats {
		if err := pack(n, format, program, out); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
	}
	return nil
}

// check looks for what GoReleaser would find only when it makes a release.
func check(p config.Project) error {
	if len(p.Builds) != 1 || len(p.NFPMs) != 1 || len(p.Casks) != 1 {
		return errors.New("there is more than one build, cask or kind of package: tell tools/release/packages which to look at")
	}
	pages, err := filepath.Glob("man/*.1")
	if err != nil {
		return err
	}
	listed := slices.Clone(p.Casks[0].Manpages)
	slices.Sort(listed)
	if !slices.Equal(pages, listed) {
		return fmt.Errorf("homebrew_casks: manpages are to be\n      - %s", strings.Join(pages, "\n      - "))
	}
	return nil
}

// build builds the program as GoReleaser does, for Linux on this architecture. Only the commit is not
// recorded: git may refuse to tell it of a checkout that belongs to another user.
func build(b config.Build, program string) error {
	args := append([]string{"build", "-o", program}, b.Flags...)
	args = append(args, "-buildvcs=false", "-ldflags="+strings.Join(b.Ldflags, " "), b.Main)
	cmd := exec.Command("go", args...)
	cmd.Env = append(append(os.Environ(), b.Env...), "GOOS=linux", "GOARCH="+runtime.GOARCH)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// pack makes a package twice, which must be the same, and writes it.
func pack(n config.NFPM, format, program, out string) error {
	var packages [2]bytes.Buffer
	var name string
	for i := range packages {
		info := describe(n, format, program)
		packager, err := nfpm.Get(format)
		if err != nil {
			return err
		}
		name = packager.ConventionalFileName(info)
		if err := packager.Package(info, &packages[i]); err != nil {
			return err
		}
	}
	if !bytes.Equal(packages[0].Bytes(), packages[1].Bytes()) {
		return errors.New("made twice, it is not the same")
	}
	fmt.Printf("%s: %d bytes\n", name, packages[0].Len())
	return os.WriteFile(filepath.Join(out, name), packages[0].Bytes(), 0o644)
}

func describe(n config.NFPM, format, program string) *nfpm.Info {
	contents := files.Contents{{
		Source: program, Destination: n.Bindir + "/filestore",
		FileInfo: &files.ContentFileInfo{Mode: 0o755, MTime: builtAt()},
	}}
	for _, c := range n.Contents {
		contents = append(contents, &files.Content{
			Source: c.Source, Destination: c.Destination, Type: c.Type, Packager: c.Packager,
			FileInfo: &files.ContentFileInfo{Owner: c.FileInfo.Owner, Group: c.FileInfo.Group, Mode: c.FileInfo.Mode, MTime: builtAt()},
		})
	}
	return nfpm.WithDefaults(&nfpm.Info{
		Name: n.PackageName, Arch: runtime.GOARCH, Platform: "linux", Version: version, MTime: builtAt(),
		Section: n.Section, Maintainer: n.Maintainer, Description: n.Description, Vendor: n.Vendor,
		Homepage: n.Homepage, License: n.License,
		Overridables: nfpm.Overridables{Contents: contents, Recommends: n.Recommends, RPM: nfpm.RPM{BuildHost: n.RPM.BuildHost}},
	})
}
