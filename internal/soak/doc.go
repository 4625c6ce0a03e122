// Package soak holds a test that works on a filestore with several processes of the real program at once,
// kills them and breaks their connections at random, and keeps a model beside it: what was reported as done
// must be so, then and in the end. It is short by default, and as long as FILESTORE_SOAK says
// (docs/reliability.md).
package soak
