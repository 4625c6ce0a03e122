package main

import (
	"runtime/debug"
	"testing"
)

// What the Go toolchain records of each way to build.
func TestVersionOf(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	built := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: commit}
	for _, test := range []struct {
		name            string
		info            *debug.BuildInfo
		version, commit string
	}{
		{"a release, from a checkout of its tag", built("v1.2.3", revision), "v1.2.3", commit},
		{"a snapshot, from a checkout after it", built("v1.2.4-0.20261125101500-0123456789ab", revision), "v1.2.4-0.20261125101500-0123456789ab", commit},
		{"with changes", built("v1.2.3+dirty", revision), "v1.2.3+dirty", commit},
		{"go install ...@v1.2.3", built("v1.2.3"), "v1.2.3", ""},
		{"go build -buildvcs=false", built("(devel)"), "(devel)", ""},
		{"a test", built(""), "(devel)", ""},
		{"without module support", nil, "(devel)", ""},
	} {
		if got := versionOf(test.info); got.Version != test.version || got.Commit != test.commit {
			t.Errorf("%s: version %q, commit %q; want %q, %q", test.name, got.Version, got.Commit, test.version, test.commit)
		}
	}
}
