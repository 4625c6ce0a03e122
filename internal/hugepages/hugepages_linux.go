package hugepages

import (
	"runtime"
	"runtime/debug"
	"syscall"
	"unsafe"
)

const (
	hugePage = 14 // MADV_HUGEPAGE and
	collapse = 25 // MADV_COLLAPSE (since Linux 6.1); package syscall has no names for them
	// arena is what the heap of Go has the addresses of as one, aligned to its size; mapped is what it takes of that at a time
	// (runtime, "malloc.go" and "mheap.go"; on 64-bit systems).
	arena  = 64 << 20
	mapped = 4 << 20
)

func init() { //nolint:gochecknoinits // see the comment on the package
	fresh := make([]byte, 64<<10) // large enough for pages of its own
	at := address(fresh)
	// All that the heap has by now, whatever part of the arena it began with; not what it will take later, see Reserve.
	advise(at&^(arena-1), arena, hugePage)
	// The first 2 MiB have small pages already.
	advise(at&^(size-1), mapped, collapse)
}

// Reserve has the heap grow once for what a command with many files or large ones takes, and into huge pages. Nothing is
// written to it: it takes memory as it is used, no more of it than before. It costs a garbage collection, hence no start has it, and
// a process should call it once.
func Reserve() {
	// With a collection under way, what is made now would count as in use until the next one, and the heap grow to a multiple of it.
	defer runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	block := make([]byte, reserve)
	advise((address(block)+size-1)&^(size-1), reserve-size, hugePage)
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// advise tells the kernel. Where it knows nothing of it, all is as before.
func advise(from, length, advice uintptr) {
	_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, from, length, advice)
}
