// Package memorytest holds tests that start the real program, move gigabytes through it, and look
// at how much memory it took: that must not grow with what it moves (docs/architecture.md,
// "Transfers").
package memorytest
