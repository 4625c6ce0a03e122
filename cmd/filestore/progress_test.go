package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Where no terminal shows a bar, long work says every 10 seconds where it is; with -q it is silent.
func TestPlainProgress(t *testing.T) {
	for name, test := range map[string]struct {
		tty, quiet bool
		terminal   string
		total      int64
		want       string
	}{
		"no terminal":    {total: 2048, want: "filestore: progress: uploading x: 1.0 KiB of 2.0 KiB\n"},
		"unknown size":   {total: -1, want: "filestore: progress: uploading x: 1.0 KiB\n"},
		"dumb terminal":  {tty: true, terminal: "dumb", total: 2048, want: "filestore: progress: uploading x: 1.0 KiB of 2.0 KiB\n"},
		"quiet":          {quiet: true, total: 2048},
		"quiet terminal": {tty: true, quiet: true, total: 2048},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var stderr strings.Builder
				a := &app{
					stderr: &stderr, stderrTTY: test.tty, flags: globalFlags{quiet: test.quiet},
					lookupEnv: func(string) (string, bool) { return test.terminal, true },
				}
				p := a.startProgress(t.Context(), "uploading x", test.total)
				p.add(1024)
				time.Sleep(plainInterval + time.Second)
				p.end()
				time.Sleep(plainInterval) // nothing comes after the end
				if got := stderr.String(); got != test.want {
					t.Errorf("%q, want %q", got, test.want)
				}
			})
		})
	}
}
