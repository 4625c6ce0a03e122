package state

import (
	"errors"
	"runtime"
	"testing"
)

func TestDir(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the paths are those of Unix")
	}
	for _, test := range []struct {
		system string
		env    map[string]string
		want   string // empty: ErrNoDir
	}{
		{"linux", map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "/state"}, "/state/filestore"},
		{"linux", map[string]string{"XDG_STATE_HOME": "/state"}, "/state/filestore"},
		{"linux", map[string]string{"HOME": "/home/u"}, "/home/u/.local/state/filestore"},
		{"linux", map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": ""}, "/home/u/.local/state/filestore"},
		{"linux", map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "state"}, "/home/u/.local/state/filestore"},
		{"freebsd", map[string]string{"HOME": "/home/u"}, "/home/u/.local/state/filestore"},
		{"linux", nil, ""},
		{"darwin", map[string]string{"HOME": "/Users/u", "XDG_STATE_HOME": "/state"}, "/Users/u/Library/Application Support/filestore-state"},
		{"darwin", nil, ""},
		{"windows", map[string]string{"LocalAppData": "/Local", "HOME": "/home/u"}, "/Local/filestore/state"},
		{"windows", map[string]string{"HOME": "/home/u"}, ""},
	} {
		got, err := dirOn(test.system, func(name string) (string, bool) {
			value, ok := test.env[name]
			return value, ok
		})
		if got != test.want || (test.want == "") != errors.Is(err, ErrNoDir) {
			t.Errorf("on %s with %v: %q, %v", test.system, test.env, got, err)
		}
	}
}
