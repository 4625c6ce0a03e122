package main

import (
	"testing"

	"github.com/spf13/pflag"
)

// TestDestination shows what of the source holds for the destination of a copy.
func TestDestination(t *testing.T) {
	source := place{bucket: "a", table: "T", profile: "p", region: "r", endpointURL: "http://e"}
	onDisk := source
	onDisk.local, onDisk.dir, onDisk.bucket = true, "/a", ""
	for _, test := range []struct {
		source place
		args   []string
		want   place // zero: refused
	}{
		{source, []string{"--to-bucket", "b"}, place{bucket: "b", table: "T", profile: "p", region: "r", endpointURL: "http://e"}},
		{onDisk, []string{"--to-bucket", "b"}, place{bucket: "b", table: "T", profile: "p", region: "r", endpointURL: "http://e"}},
		{source, []string{"--to-bucket", "b", "--to-table", "U", "--to-region", "s"}, place{bucket: "b", table: "U", profile: "p", region: "s", endpointURL: "http://e"}},
		{source, []string{"--to-bucket", "b", "--to-profile", "q"}, place{bucket: "b", table: "T", profile: "q"}},
		{source, []string{"--to-bucket", "b", "--to-profile", "q", "--to-region", "s", "--to-endpoint-url", "http://f"}, place{bucket: "b", table: "T", profile: "q", region: "s", endpointURL: "http://f"}},
		{source, []string{"--to-bucket", "b", "--to-endpoint-url", ""}, place{bucket: "b", table: "T", profile: "p", region: "r"}},
		{source, []string{"--to-local"}, place{local: true, table: "T", profile: "p", region: "r", endpointURL: "http://e"}},
		{onDisk, []string{"--to-local=/b"}, place{local: true, dir: "/b", table: "T", profile: "p", region: "r", endpointURL: "http://e"}},
		{source, []string{"--to-local=false", "--to-bucket", "b"}, place{bucket: "b", table: "T", profile: "p", region: "r", endpointURL: "http://e"}},
		{source, nil, place{}},
		{source, []string{"--to-local=false"}, place{}},
		{source, []string{"--to-local", "--to-bucket", "b"}, place{}},
	} {
		var to destinationFlags
		flags := pflag.NewFlagSet("copy", pflag.ContinueOnError)
		to.register(flags)
		if err := flags.Parse(test.args); err != nil {
			t.Fatal(err)
		}
		a := &app{flags: globalFlags{changed: flags.Changed}}
		got, err := to.settings(a, settings{place: test.source})
		if refused := test.want == (place{}); refused != (err != nil) || !refused && got.place != test.want {
			t.Errorf("%q: %+v, %v, want %+v", test.args, got.place, err, test.want)
		}
	}
}
