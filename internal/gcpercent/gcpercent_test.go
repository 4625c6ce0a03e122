package gcpercent

import (
	"os"
	"runtime/debug"
	"testing"
)

func TestPercent(t *testing.T) {
	was := debug.SetGCPercent(percent)
	if os.Getenv("GOGC") == "" && was != percent {
		t.Errorf("the percentage is %d, want %d", was, percent)
	}
}
