// Package prefault has Linux map the first memory of the heap at once, in a program that imports it.
//
// What packages fill before main (the AWS SDK's schemas, the S3 server's tables, widths of characters) takes about 4 MiB in
// every start. The kernel maps it one page of 4 KiB at a time, when it is first written to: a thousand page faults, which on a
// virtual machine whose faults are slow are a tenth of what a start takes. Asked for as a whole it is the same memory, without
// the faults (madvise(2), MADV_POPULATE_WRITE, since Linux 5.14; with older kernels and other systems nothing changes).
//
// Only who is initialized before those packages can do that; packages are initialized in the order of their paths, those they
// import first (The Go Programming Language Specification, "Program initialization"). So this one imports nothing but what
// they need too.
package prefault

import (
	"syscall"
	"unsafe"
)

const (
	size          = 4 << 20
	populateWrite = 23 // MADV_POPULATE_WRITE; package syscall has no name for it
)

func init() { //nolint:gochecknoinits // see the comment on the package
	page := syscall.Getpagesize()
	// Large enough for pages of its own, which the allocator takes from behind all that are in use.
	fresh := make([]byte, 10*page)
	from := uintptr(unsafe.Pointer(unsafe.SliceData(fresh))) &^ uintptr(page-1)
	// It stops with an error where what is mapped of the heap ends; up to there it is done then.
	_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, from, size, populateWrite)
}
