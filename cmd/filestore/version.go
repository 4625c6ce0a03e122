package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version",
		Example: `  filestore version --json`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			a.out.columns("VERSION", "COMMIT", "GO", "PLATFORM")
			a.out.add(result{
				id:    v.Version,
				cells: []cell{text(v.Version), text(v.Commit), text(v.Go), text(v.Platform)},
				json:  v,
			})
			return nil
		},
	}
}

// versionJSON is the version in JSON (docs/output.md).
type versionJSON struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// buildVersion reads what the Go toolchain recorded of this build. Nothing is set when it is linked: of a
// checkout the version is that of its tag, or a pseudo-version, with +dirty where it has changes; of
// "go install ...@v1.2.3" it is v1.2.3, without a commit.
func buildVersion() versionJSON {
	info, _ := debug.ReadBuildInfo() // nil where there is none
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) versionJSON {
	v := versionJSON{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info == nil {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	return v
}

// addVersionFlag gives root the flag --version: scripts that look whether a program is there try it first.
func addVersionFlag(root *cobra.Command) {
	root.Version = buildVersion().Version
	root.Flags().Bool("version", false, "print the version, as \"version\" does with more")
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
}
