package records

import (
	"crypto/sha256"
	"errors"
	"strconv"
)

// Shards is how many parts the index of pending files has (docs/contract.md, "The pending index").
const Shards = 16

// Shard returns the part of the index that the file of that id is in: "00" to "0f", by the first four
// bits of the SHA-256 of the id.
func Shard(id string) string {
	sum := sha256.Sum256([]byte(id))
	return shardName(int(sum[0] >> 4))
}

// ShardNames returns all that [Shard] returns.
func ShardNames() []string {
	names := make([]string, Shards)
	for i := range names {
		names[i] = shardName(i)
	}
	return names
}

func shardName(n int) string { return "0" + strconv.FormatInt(int64(n), 16) }

// ErrNoIndex says that the table has no index of its pending files, or none that can be read yet.
var ErrNoIndex = errors.New("there is no index of pending files")

// IndexState is where the index of pending files stands.
type IndexState string

// The states of an index.
const (
	IndexNone     IndexState = "none"     // there is none
	IndexCreating IndexState = "creating" // it can't be read yet
	IndexActive   IndexState = "active"
	IndexUpdating IndexState = "updating" // its capacity changes; it can be read
	IndexDeleting IndexState = "deleting"
)

// Index describes the index of pending files.
type Index struct {
	Name  string
	State IndexState
	// Backfilling says that the table puts the records in that were there before the index.
	Backfilling bool
	// Records and Bytes are how large the index is; -1 where the table does not tell. DynamoDB tells it
	// as it was up to six hours ago.
	Records, Bytes int64
}

// IsUnsettled fails with ErrStored or ErrDeleted unless r waits for something: to be uploaded, to be
// stored, to expire; or to be cleaned again, if it was deleted at since or later.
func IsUnsettled(since Stamp) func(Record) error {
	return func(r Record) error {
		if r.DeletedAt.IsSet() {
			return unless(r.DeletedAt >= since, ErrDeleted)
		}
		return NotStored(r)
	}
}

// IsSettled fails with ErrNotDue unless r waits for nothing any more: it is stored, or was deleted
// before limit.
func IsSettled(limit Stamp) func(Record) error {
	return func(r Record) error {
		if r.DeletedAt.IsSet() {
			return unless(r.DeletedAt < limit, ErrNotDue)
		}
		return unless(r.StoredAt.IsSet(), ErrNotDue)
	}
}
