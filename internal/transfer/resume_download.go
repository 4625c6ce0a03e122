package transfer

import (
	"cmp"
	"context"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// recordedPiece is how much of a range is recorded at once, in bytes: what a killed process had
// written of the pieces under way is fetched again.
const recordedPiece = 4 << 20

// Extent is bytes of an object that have been written where they belong.
type Extent struct {
	From, To int64  // offsets; To is the first one behind
	Checksum string // of the kind that the Version names, in base64
}

// Resumption is how a download outlives its process.
type Resumption struct {
	// There is what earlier processes recorded of this version, in whatever order.
	There []Extent
	// Kept is told how many bytes of There the file really has, before anything is asked for. It
	// may be nil.
	Kept func(size int64)
	// Record is told of all that is written, one piece at a time; when it returns, another process
	// can go on from there. Its error ends the download.
	Record func(Extent) error
}

// ResumableSink is a file that may have something of the object already; *os.File is one.
type ResumableSink interface {
	Sink
	io.ReaderAt
}

// DownloadRest is [Engine.DownloadFile] of a version that is downloaded in ranges, into a file
// that may have a part of it. What the file is said to have is read and compared with its
// checksum; what fits is not asked for again. Progress is told of it too. What this call writes is
// recorded also where it then fails.
//
// ErrChanged says that the object is of another version by now, ErrChecksum that what is
// in the file is not the object: neither can be gone on with.
func (e *Engine) DownloadRest(ctx context.Context, key string, v Version, f ResumableSink, how Resumption, progress Progress) (Object, error) {
	d := &rangedDownload{engine: e, key: key, Version: v, progress: progress}
	kept, err := d.kept(ctx, f, how.There)
	if err != nil {
		return Object{}, err
	}
	size := sizeOf(kept)
	if how.Kept != nil {
		how.Kept(size)
	}
	progress.add(size)
	return d.toFile(ctx, f, kept, recordedPiece, func(x extent) error {
		return how.Record(Extent{From: x.from, To: x.to, Checksum: d.crc.encode(x.sum)})
	})
}

// kept returns what f has of what it is said to have, in order and without overlaps.
func (d *rangedDownload) kept(ctx context.Context, f io.ReaderAt, said []Extent) ([]extent, error) {
	fits := make([]bool, len(said))
	sums := make([]uint64, len(said))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0)) // what bounds it is hashing, or the disk
	for i, x := range said {
		if x.From < 0 || x.From >= x.To || x.To > d.Size {
			continue
		}
		group.Go(func() error {
			if err := groupCtx.Err(); err != nil {
				return err
			}
			buf := d.engine.copyBuffer(x.To - x.From)
			defer d.engine.giveBack(buf)
			h := d.crc.hash()
			n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.NewSectionReader(f, x.From, x.To-x.From)}, *buf)
			// What can't be read is as good as not there.
			sums[i] = d.crc.of(h)
			fits[i] = err == nil && n == x.To-x.From && d.crc.encode(sums[i]) == x.Checksum
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var found []extent
	for i, x := range said {
		if fits[i] {
			found = append(found, extent{from: x.From, to: x.To, sum: sums[i]})
		}
	}
	// What was damaged and fetched again may have been cut at other places.
	slices.SortFunc(found, func(a, b extent) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	at := int64(0)
	return slices.DeleteFunc(found, func(x extent) bool {
		if x.from < at {
			return true
		}
		at = x.to
		return false
	}), nil
}
