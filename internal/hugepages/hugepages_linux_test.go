package hugepages

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
)

// region is a part of the memory of this process that may be on huge pages.
type region struct{ from, to uintptr }

// advised returns the regions that the kernel was told to put on huge pages (proc_pid_smaps(5), "hg").
func advised(t *testing.T) (all []region) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	var r region
	for line := range strings.Lines(string(smaps)) {
		if _, err := fmt.Sscanf(line, "%x-%x ", &r.from, &r.to); err == nil {
			continue
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && slices.Contains(strings.Fields(flags), "hg") {
			all = append(all, r)
		}
	}
	return all
}

func TestHeapIsOnHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); errors.Is(err, fs.ErrNotExist) {
		t.Skip("this kernel has no huge pages")
	}
	if len(advised(t)) == 0 {
		t.Error("nothing was before main")
	}
	Reserve()
	large := make([]byte, 8<<20)
	from := address(large)
	to := from + uintptr(len(large))
	if all := advised(t); !slices.ContainsFunc(all, func(r region) bool { return r.from <= from && to <= r.to }) {
		t.Errorf("memory from %x to %x is in none of %x", from, to, all)
	}
	if len(large) == 0 {
		t.Error("it was collected before it was looked for") // which this line does not allow
	}
}
