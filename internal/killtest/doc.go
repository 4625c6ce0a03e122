// Package killtest holds tests that start the real program and end it in the middle of its work,
// at each of its requests, and look at what is left: no state that docs/contract.md, "The
// transitions", does not know, and after a sweep nothing that should not be there.
package killtest
