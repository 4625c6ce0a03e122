// Package client is the reference client of a filestore: every operation on files, by the rules
// of docs/contract.md, on a bucket and a table of records. Somebody who writes a client in
// another language should find here what to do, in which order, and why.
//
// Each operation has a file of its own. Nothing here prints, exits, or knows a terminal; the
// clock and the source of ids are fields.
package client

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/limit"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

// The contract's defaults (docs/contract.md, "The parts").
const (
	DefaultTable             = "Files"
	DefaultURLLifetime       = time.Hour
	DefaultTemporaryLifetime = time.Hour
)

// DefaultSegments is how many parts of a table are read at once. It is the same for every table: how large
// one is, DynamoDB tells only of six hours ago, and the seven requests more that a small one takes
// cost half a unit each.
const DefaultSegments = 8

// batch is how many calls on single records run at once.
const batch = 32

// A sweep begins with so many claims in flight, and never has more. Of the most, 8 full batches of
// writes can be made.
const (
	firstClaims = 32
	mostClaims  = 256
)

// Settings are those of a deployment: every client of it should use the same.
type Settings struct {
	URLLifetime       time.Duration // of presigned URLs, 1 s to 7 days
	TemporaryLifetime time.Duration // from the upload of a file that nobody stores to its sweep
	StoreOnLoad       bool          // files are stored the moment they are uploaded
}

// Client works on one filestore. All fields are needed, but for those that say otherwise. It is safe
// for concurrent use.
type Client struct {
	S3       *s3.Client
	Bucket   string
	Records  records.Table
	Transfer *transfer.Engine
	// Claims bounds how many files sweeps claim at the same time; [NewClaims] makes one. nil: each
	// sweep finds its own bound.
	Claims *limit.Limiter
	// Signer returns what signs URLs. It may ask for credentials, and fails where there are none.
	Signer   func(ctx context.Context) (presign.Signer, error)
	Settings Settings

	Now   func() time.Time
	NewID func() string

	// OnlyWriter says that nobody but this program writes records. Then a placeholder without created_at is that of a
	// copy, which writes the record itself, also when it is repeated: [Client.ObjectCreated] leaves it alone.
	OnlyWriter bool

	// Audit is told of files before [Client.Delete], [Client.Revert], [Client.Expire], the repairs of
	// [Client.Verify] and, at the destination, [Client.CopyTo] delete their objects, and again, with Err, of those whose objects could not be
	// deleted. When it fails, the objects are not deleted. It may be called by several goroutines. May be nil.
	Audit func(context.Context, []Deletion) error
}

// NewClaims returns a bound on claims that adapts to the table.
func NewClaims() *limit.Limiter { return limit.New(firstClaims, 1, mostClaims) }

// Throttled tells that the table of records asks for fewer requests: what has several under way then
// has fewer.
func (c *Client) Throttled() {
	c.Transfer.Throttled()
	if c.Claims != nil {
		c.Claims.Throttled()
	}
}

func (c *Client) stamp() records.Stamp { return records.At(c.Now()) }

// Result is what became of one file of several.
type Result[T any] struct {
	ID    string
	Value T
	Err   error // often a [*FileError]
}

// InOrder calls f for every item, up to limit at once, and yields the results in the order of
// the items, each as soon as it and all before it are there. When ctx ends or the caller stops,
// f is still called for the rest, with a context that has ended: it says of each item that it
// was not done.
func InOrder[T, R any](ctx context.Context, items []T, limit int, f func(context.Context, T) R) iter.Seq[R] {
	return inOrder(ctx, slices.Values(items), limit, nil, f)
}

// InOrderWithin is [InOrder] with a limit that changes: now is asked whenever another call would be begun beside those that
// are under way. Of these there are no fewer once it is lowered.
func InOrderWithin[T, R any](ctx context.Context, items []T, limit int, now func() int, f func(context.Context, T) R) iter.Seq[R] {
	return inOrder(ctx, slices.Values(items), limit, now, f)
}

// inOrder is [InOrderWithin] of items that come by and by, from a goroutine of its own. now may be nil.
func inOrder[T, R any](ctx context.Context, items iter.Seq[T], limit int, now func() int, f func(context.Context, T) R) iter.Seq[R] {
	return func(yield func(R) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup

		// Results wait here for those before them: a few more than there are workers, so that one
		// slow item does not hold up the others, and not as many as there are items.
		type job struct {
			item   T
			result chan R
		}
		queue := make(chan chan R, 4*limit)
		running.Go(func() {
			defer close(queue)
			workers := newWorkers(limit, now, func(j job) { j.result <- f(ctx, j.item) })
			defer workers.wait()
			for item := range items {
				j := job{item, make(chan R, 1)}
				queue <- j.result
				workers.do(j)
			}
		})
		// However the caller stops, the rest is gone through.
		defer func() {
			cancel()
			for range queue {
			}
			running.Wait()
		}()
		for result := range queue {
			if !yield(<-result) {
				return
			}
		}
	}
}

// workersAgain is how often it is looked whether more workers than before are of use, while all are busy.
const workersAgain = 5 * time.Millisecond

// workers call f for what they are given, up to so many at once.
type workers[T any] struct {
	most, begun int
	now         func() int // how many at present; nil: most
	f           func(T)
	jobs        chan T
	running     sync.WaitGroup
}

func newWorkers[T any](most int, now func() int, f func(T)) *workers[T] {
	return &workers[T]{most: most, now: now, f: f, jobs: make(chan T)}
}

// do has f called with job, as soon as a worker is free. A worker goes on with the next job, since its
// stack has grown to what a call of the SDK takes; there are no more of them than are of use.
func (w *workers[T]) do(job T) {
	select {
	case w.jobs <- job:
		return
	default:
	}
	for w.begun == w.most || w.begun > 0 && w.now != nil && w.begun >= w.now() {
		var again <-chan time.Time
		if w.begun < w.most {
			again = time.After(workersAgain)
		}
		select {
		case w.jobs <- job:
			return
		case <-again:
		}
	}
	w.begun++
	w.running.Go(func() {
		for ok := true; ok; job, ok = <-w.jobs {
			w.f(job)
		}
	})
}

// wait returns when all is done.
func (w *workers[T]) wait() {
	close(w.jobs)
	w.running.Wait()
}

// unique returns ids without repetitions, in the order of their first appearance.
func unique(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	var out []string
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}
