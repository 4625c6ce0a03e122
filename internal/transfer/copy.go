package transfer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sync/semaphore"

	"github.com/designfultech/filestore/internal/limit"
)

// What a Copier has in memory at once.
const (
	// copyWindow is the limit of what was read and is not written yet, in bytes, but for a part that
	// is larger.
	copyWindow = 128 << 20
	// copyStreams is how many objects are copied as a stream, each with a window of its own.
	copyStreams = 2
)

// Copier copies objects from one bucket to another, which may be on different servers. The bytes
// pass through here, into bounded memory. It is safe for concurrent use.
//
// What bounds the requests in flight is the limit of the engine To: whatever waits for its turn
// there has at most one request to the source under way. Nothing that holds memory waits for a
// turn, so that no two copies can wait for each other.
type Copier struct {
	From, To *Engine

	memory  *semaphore.Weighted
	streams *semaphore.Weighted

	mu   sync.Mutex
	free [][]byte // of parts, which are all of one size: as many as were ever in memory at once
}

// NewCopier returns a Copier between two engines, which should have the same size of parts.
func NewCopier(from, to *Engine) *Copier {
	return &Copier{From: from, To: to, memory: semaphore.NewWeighted(copyWindow), streams: semaphore.NewWeighted(copyStreams)}
}

// Copy copies the object under key, with its content type. size is the number of bytes that it must
// have, -1 where that isn't known. What the source sends is compared with the checksum that it
// holds before the object is written, or its multipart upload completed; the destination
// compares what arrives there. So a damaged object leaves nothing. The Object is that of the
// destination; it is Verified where both have compared a checksum.
//
// An object of at most one part is one request each way. A larger one goes in parts, each of them
// a range of the source, in parallel and in any order. One whose checksum can't be combined of
// those of ranges is read in one request.
//
// Errors of the source are as those of [Engine.Download], those of the destination are an
// [*UploadError]; both can be. Where it is none, nothing was written.
func (c *Copier) Copy(ctx context.Context, key string, size int64, progress Progress) (Object, error) {
	if size >= 0 && size <= c.To.partSize() {
		return c.whole(ctx, key, size, progress)
	}
	v, err := c.From.version(ctx, key, size)
	switch {
	case err != nil:
		return Object{}, err
	case v.Size <= c.To.partSize():
		return c.whole(ctx, key, v.Size, progress)
	case v.InRanges():
		return c.inParts(ctx, key, v, progress)
	default:
		return c.asStream(ctx, key, v, progress)
	}
}

// nothingToWatch is for what was read already: it can't change any more.
func nothingToWatch() error { return nil }

func (c *Copier) whole(ctx context.Context, key string, size int64, progress Progress) (Object, error) {
	slot, err := c.To.limiter(size).Acquire(ctx)
	if err != nil {
		return Object{}, err
	}
	defer slot.Release(size)
	held := min(size, copyWindow)
	if err := c.memory.Acquire(ctx, held); err != nil {
		return Object{}, err
	}
	defer c.memory.Release(held)
	var content bytes.Buffer
	content.Grow(int(size))
	d := &download{engine: c.From, key: key, want: size, w: &content}
	err = c.From.continuing(ctx, slot, func() (int64, error) {
		before := d.offset
		err := d.run(ctx)
		return d.offset - before, err
	})
	if err != nil {
		return Object{}, err
	}
	read, err := d.verify()
	if err != nil {
		return Object{}, err
	}
	written, err := c.To.putIn(ctx, slot, key, d.contentType, bytes.NewReader(content.Bytes()), size, nil, nothingToWatch, progress)
	return both(read.Verified, written, err)
}

// both is what came of the destination, verified only if the source was.
func both(source string, written Object, err error) (Object, error) {
	if source == "" {
		written.Verified = ""
	}
	return written, err
}

func (c *Copier) inParts(ctx context.Context, key string, v Version, progress Progress) (Object, error) {
	from := &copiedRanges{copier: c, rangedDownload: rangedDownload{engine: c.From, key: key, Version: v}}
	written, err := c.To.multipart(ctx, key, aws.ToString(v.head.ContentType), from.parts(fileParts(nil, v.Size, c.To.partSize())),
		nil, from.verified, progress)
	return both(v.Checksum, written, err)
}

// copiedRanges is an object on its way in parts.
type copiedRanges struct {
	rangedDownload
	copier *Copier

	mu    sync.Mutex
	there []extent
}

// parts makes the parts of a file of that size those of the object.
func (r *copiedRanges) parts(next parts) parts {
	var at int64
	return func(ctx context.Context) (part, error) {
		p, err := next(ctx)
		if err != nil {
			return part{}, err
		}
		x := extent{from: at, to: at + p.size}
		at = x.to
		arrived := &lateData{}
		p.data = arrived
		var held int64
		p.fetch = func(ctx context.Context, slot *limit.Slot) error {
			most := min(p.size, copyWindow)
			if err := r.copier.memory.Acquire(ctx, most); err != nil {
				return err
			}
			held = most
			buf := r.copier.buffer(p.size)
			arrived.set(buf)
			return r.get(ctx, slot, x, buf)
		}
		p.done = func() {
			if held > 0 {
				r.copier.giveBack(arrived.set(nil))
				r.copier.memory.Release(held)
			}
		}
		return p, nil
	}
}

// buffer returns room for a part. The collector would take its time to find what was in the last one.
func (c *Copier) buffer(size int64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := len(c.free) - 1; last >= 0 {
		buf := c.free[last]
		c.free = c.free[:last]
		if int64(cap(buf)) >= size {
			return buf[:size]
		}
	}
	return make([]byte, size, max(size, min(c.To.partSize(), copyWindow)))
}

func (c *Copier) giveBack(buf []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, buf)
}

// get reads a range into buf.
func (r *copiedRanges) get(ctx context.Context, slot *limit.Slot, x extent, buf []byte) error {
	s := &orderedRange{extent: x, buf: buf, hash: r.crc.hash()}
	if err := r.fetch(ctx, slot, x.from, x.to, s); err != nil {
		return fmt.Errorf("read the bytes from %d on: %w", x.from, err)
	}
	x.sum = r.crc.of(s.hash)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.there = append(r.there, x)
	return nil
}

// verified compares what has arrived with what the source holds.
func (r *copiedRanges) verified() error {
	r.mu.Lock()
	there := slices.Clone(r.there)
	r.mu.Unlock()
	_, err := r.verify(there)
	return err
}

// lateData is the data of a part that is fetched before it is read, and then given back: a request that
// has failed may still be reading its body.
type lateData struct {
	mu   sync.RWMutex
	data []byte // nil before and after
}

// set returns what the data was before.
func (l *lateData) set(data []byte) (before []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, l.data = l.data, data
	return before
}

// ReadAt implements [io.ReaderAt].
func (l *lateData) ReadAt(p []byte, offset int64) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.data == nil {
		return 0, io.ErrClosedPipe
	}
	return bytes.NewReader(l.data).ReadAt(p, offset)
}

// asStream reads the object in one request. The stream ends only after it was verified: until then
// the destination waits for its last part.
func (c *Copier) asStream(ctx context.Context, key string, v Version, progress Progress) (_ Object, err error) {
	if err := c.streams.Acquire(ctx, 1); err != nil {
		return Object{}, err
	}
	defer c.streams.Release(1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	var read Object
	var reading sync.WaitGroup
	reading.Go(func() {
		var err error
		read, err = c.From.downloadWhole(ctx, key, v.Size, w, nil)
		_ = w.CloseWithError(err) // never fails; without an error it is the end of the stream
	})
	defer reading.Wait()
	defer func() { _ = r.CloseWithError(io.ErrClosedPipe) }() // ends the reading where the upload has failed
	stream, err := c.To.OpenStream(r)
	if err != nil {
		return Object{}, err
	}
	written, err := c.To.UploadStream(ctx, key, aws.ToString(v.head.ContentType), stream, progress)
	if err != nil {
		return Object{}, err
	}
	reading.Wait()
	return both(read.Verified, written, nil)
}
