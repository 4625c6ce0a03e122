// Package state keeps what the program itself must remember between two runs, such as which
// uploads it has begun, in files of this user.
package state

import (
	"errors"
	"path/filepath"
	"runtime"
)

// ErrNoDir says that the environment names no place for the program's state.
var ErrNoDir = errors.New("the user has no home directory")

// Dir returns the directory for the program's state: $XDG_STATE_HOME/filestore, by default
// ~/.local/state/filestore (XDG Base Directory Specification); ~/Library/Application
// Support/filestore-state on macOS, beside the local store, which must have its directory for
// itself; %LocalAppData%\filestore\state on Windows. The directory need not exist. It fails with
// [ErrNoDir].
func Dir(lookupEnv func(string) (string, bool)) (string, error) {
	return dirOn(runtime.GOOS, lookupEnv)
}

func dirOn(system string, lookupEnv func(string) (string, bool)) (string, error) {
	// Relative paths are ignored, as the specification wants it: they would lead elsewhere with
	// every working directory.
	directory := func(variable string) string {
		dir, _ := lookupEnv(variable)
		if !filepath.IsAbs(dir) {
			return ""
		}
		return dir
	}
	home := directory("HOME")
	switch {
	case system == "windows":
		if dir := directory("LocalAppData"); dir != "" {
			return filepath.Join(dir, "filestore", "state"), nil
		}
	case system == "darwin" && home != "":
		return filepath.Join(home, "Library", "Application Support", "filestore-state"), nil
	case system == "darwin":
	case directory("XDG_STATE_HOME") != "":
		return filepath.Join(directory("XDG_STATE_HOME"), "filestore"), nil
	case home != "":
		return filepath.Join(home, ".local", "state", "filestore"), nil
	}
	return "", ErrNoDir
}
