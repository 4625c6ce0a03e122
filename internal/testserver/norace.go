//go:build !race

package testserver

// Race says that the race detector watches.
const Race = false
