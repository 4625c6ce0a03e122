// Package hugepages has Linux put the heap of a program on huge pages, from the start of one that imports it.
//
// Memory is mapped when it is first written to, a page of 4 KiB at a time. On a virtual machine such a page fault can take 20 µs
// and more, and a command that starts has a thousand of them, one that moves many files ten thousand: a quarter of its time. A huge page is
// mapped by one fault for 512 of them (madvise(2), MADV_HUGEPAGE). Where huge pages are switched off, with older kernels, and on
// other systems nothing changes.
//
// What packages fill before main (the AWS SDK's schemas, the S3 server's tables) takes about 4 MiB in every start. Only who is initialized
// before those packages can do something about that, hence the init function; packages are initialized in the order of their paths, those they
// import first (The Go Programming Language Specification, "Program initialization"). So this one imports nothing but what
// they need too.
package hugepages

const (
	size = 2 << 20 // bytes, of those that fit into a heap: on all processors of releases
	// reserve is how many bytes [Reserve] is for: most of what a command with many files takes.
	reserve = 64 << 20
)
