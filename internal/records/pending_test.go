package records_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/designfultech/filestore/internal/records"
)

// The parts of the index are those of docs/contract.md, "The pending index", and ids spread over all of them.
func TestShard(t *testing.T) {
	for id, want := range map[string]string{"navtpwko2jy8sggu": "06", "wnj12474y8he03u4": "02"} {
		if got := records.Shard(id); got != want {
			t.Errorf("%q is in part %q, want %q", id, got, want)
		}
	}
	names := records.ShardNames()
	if len(names) != records.Shards || names[0] != "00" || names[records.Shards-1] != "0f" {
		t.Errorf("the parts are %q", names)
	}
	const ids = 16_000
	found := make(map[string]int)
	for i := range ids {
		found[records.Shard(fmt.Sprintf("file%012d", i))]++
	}
	for shard, n := range found {
		if !slices.Contains(names, shard) || n < 900 || n > 1100 {
			t.Errorf("%d of %d ids are in part %q", n, ids, shard)
		}
	}
}
