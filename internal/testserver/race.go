//go:build race

package testserver

// Race says that the race detector watches. It makes everything several times as slow, and finds something only where
// goroutines of ours meet: tests leave out what others do as well, or where one thing happens after the other.
const Race = true
