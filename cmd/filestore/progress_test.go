package main

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"
)

// On a terminal there is one bar for all files, as wide as there is room, that goes back where
// something is sent again, says how many files have ended, and leaves nothing behind.
func TestProgressBar(t *testing.T) {
	for _, columns := range []int{40, 80, 100, 160} {
		synctest.Test(t, func(t *testing.T) {
			var stderr strings.Builder
			a := &app{
				stderr: &stderr, stderrTTY: true, columns: func() int { return columns },
				lookupEnv: func(string) (string, bool) { return "xterm", true },
			}
			p := a.startProgress(t.Context(), "uploading", 400<<20, 20)
			p.add(100 << 20)
			p.fileEnded()
			time.Sleep(time.Second)
			p.add(300 << 20)
			time.Sleep(time.Second)
			p.add(-200 << 20)
			time.Sleep(time.Second)
			synctest.Wait()
			frames := strings.Split(stderr.String(), "\r")
			p.end()

			if width := runewidth.StringWidth(slices.MaxFunc(frames, func(a, b string) int {
				return runewidth.StringWidth(a) - runewidth.StringWidth(b)
			})); width >= columns || width < columns/3 {
				t.Errorf("%d of %d columns are used", width, columns)
			}
			last := frames[len(frames)-1]
			for len(strings.TrimSpace(last)) == 0 {
				frames = frames[:len(frames)-1]
				last = frames[len(frames)-1]
			}
			if !strings.Contains(last, "50%") || !strings.Contains(stderr.String(), " 99%") && !strings.Contains(stderr.String(), "100%") {
				t.Errorf("%d columns: the bar ends as %q", columns, last)
			}
			if columns >= 80 && !strings.Contains(last, "uploading 1/20 files") {
				t.Errorf("%d columns: the files are not counted in %q", columns, last)
			}
			if columns >= 80 && !strings.Contains(last, "(200/400 MiB") {
				t.Errorf("%d columns: the bytes are not told in %q", columns, last)
			}
			end := stderr.String()[strings.LastIndex(stderr.String(), last)+len(last):]
			if strings.TrimSpace(end) != "" || !strings.HasSuffix(end, "\r") {
				t.Errorf("%d columns: the bar is left on the screen: %q", columns, end)
			}
		})
	}
}

// Where no terminal shows a bar, long work says every 10 seconds where it is; with -q it is silent.
func TestPlainProgress(t *testing.T) {
	for name, test := range map[string]struct {
		tty, quiet bool
		terminal   string
		format     logFormat
		total      int64
		files      int
		want       string
	}{
		"no terminal":   {total: 2048, want: "filestore: progress: uploading x: 1.0 KiB of 2.0 KiB\n"},
		"unknown size":  {total: -1, want: "filestore: progress: uploading x: 1.0 KiB\n"},
		"dumb terminal": {tty: true, terminal: "dumb", total: 2048, want: "filestore: progress: uploading x: 1.0 KiB of 2.0 KiB\n"},
		"several files": {total: 2048, files: 3, want: "filestore: progress: uploading x: 1.0 KiB of 2.0 KiB, 1 of 3 files\n"},
		"how many":      {total: -1, files: -1, want: "filestore: progress: uploading x: 1.0 KiB, 1 file\n"},
		"more than all": {total: 512, want: "filestore: progress: uploading x: 512 B of 512 B\n"},
		"log in JSON": {tty: true, format: logJSON, total: 2048, files: 3, want: `{"time":"2000-01-01T00:00:10.000Z","level":"INFO",` +
			`"msg":"uploading x: 1.0 KiB of 2.0 KiB, 1 of 3 files","kind":"progress",` +
			`"bytes":1024,"bytes_total":2048,"files":1,"files_total":3}` + "\n"},
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
				a.setLog(test.format, &cobra.Command{Use: "filestore"})
				p := a.startProgress(t.Context(), "uploading x", test.total, test.files)
				p.add(1024)
				p.fileEnded()
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
