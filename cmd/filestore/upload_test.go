package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// brokenPipe takes nothing that is written to it.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// What follows a result follows its being written: on a terminal that of the table, at the end.
func TestResultIsWrittenFirst(t *testing.T) {
	for name, tty := range map[string]bool{"lines": false, "table": true} {
		t.Run(name, func(t *testing.T) {
			var stdout strings.Builder
			o := newOutput(&app{stdoutTTY: tty, stdout: &stdout})
			o.columns("ID")
			followed := 0
			r := result{id: "a1", cells: []cell{text("a1")}, written: func() {
				if followed++; !strings.Contains(stdout.String(), "a1") {
					t.Error("it was not written yet")
				}
			}}
			o.add(r)
			if err := o.close(); err != nil || followed != 1 {
				t.Errorf("%v, followed %d times", err, followed)
			}

			o = newOutput(&app{stdoutTTY: tty, stdout: brokenPipe{}})
			o.columns("ID")
			o.add(r)
			if err := o.close(); !errors.Is(err, io.ErrClosedPipe) || followed != 1 {
				t.Errorf("%v, followed %d times", err, followed)
			}
		})
	}
}
