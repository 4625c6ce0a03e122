package transfer

import (
	"cmp"
	"context"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/designfultech/filestore/internal/limit"
)

// Version is one version of an object, as a download in ranges needs to know it.
type Version struct {
	ETag string // with its quotes
	Size int64  // bytes
	// Checksum names the CRC of the full object that the server holds. It is empty where the object
	// is downloaded in one request: it has at most one part, or there is no CRC that those of ranges
	// can be combined to.
	Checksum string

	crc  crc
	want string               // in base64
	head *s3.HeadObjectOutput // nil where nothing was asked
}

// InRanges reports whether the version is downloaded in ranges.
func (v Version) InRanges() bool { return v.Checksum != "" }

// Version asks which version of an object there is. Nothing is asked where size, the number of
// bytes that the object must have, says that it is not downloaded in ranges; size is -1 where it
// isn't known.
func (e *Engine) Version(ctx context.Context, key string, size int64) (Version, error) {
	if size >= 0 && size <= e.partSize() {
		return Version{Size: size}, nil
	}
	return e.version(ctx, key, size)
}

// version is Version, and asks in any case.
func (e *Engine) version(ctx context.Context, key string, size int64) (Version, error) {
	timed, answer := timeAnswer(ctx)
	head, err := e.S3.HeadObject(timed, &s3.HeadObjectInput{Bucket: &e.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return Version{}, err
	}
	if near, _ := answer(); near {
		e.limiter(e.partSize()).Begin(nearParts)
	}
	v := Version{ETag: aws.ToString(head.ETag), Size: aws.ToInt64(head.ContentLength), head: head}
	if size >= 0 && v.Size != size {
		return Version{}, sizeMismatch(v.Size, size)
	}
	if c, want, ok := fullObjectCRC(head); ok && v.ETag != "" && v.Size > e.partSize() {
		v.Checksum, v.crc, v.want = c.name, c, want
	}
	return v, nil
}

// fullObjectCRC picks the CRC of the full object that S3 holds, and its value in base64.
func fullObjectCRC(head *s3.HeadObjectOutput) (c crc, want string, ok bool) {
	for _, c := range checksumsOf(held(head)) {
		if c.crc.name != "" {
			return c.crc, c.value, !c.composite
		}
	}
	return crc{}, "", false
}

// Sink is an empty file that a download fills; *os.File is one.
type Sink interface {
	io.Writer
	io.WriterAt
	Truncate(size int64) error
}

// DownloadFile writes the object under key to f, verified as [Engine.Download] does it, but in
// parallel: ranges of it are asked for, all with If-Match on one ETag, and written where they
// belong. Their checksums are computed as they arrive and combined, so that the file is not read
// again. The file gets its full size at once: where the file system can tell, a disk without room
// for it is an error before the first byte.
//
// Where the server holds something else to compare with, the file is read once more when it is
// there, if it can be read: ranges in parallel are worth that. An object of at most one part is
// downloaded in one piece.
func (e *Engine) DownloadFile(ctx context.Context, key string, size int64, f Sink, progress Progress) (Object, error) {
	v, err := e.Version(ctx, key, size)
	if err != nil {
		return Object{}, err
	}
	d := &rangedDownload{engine: e, key: key, Version: v, progress: progress}
	forget := func(extent) error { return nil }
	if v.InRanges() {
		return d.toFile(ctx, f, nil, e.partSize(), forget)
	}
	r, readable := f.(io.ReaderAt)
	if !readable || v.head == nil || v.ETag == "" || v.Size <= e.partSize() || aws.ToString(v.head.AcceptRanges) != "bytes" {
		return e.downloadWhole(ctx, key, size, f, progress)
	}
	check, err := e.verifierFor(ctx, key, held(v.head))
	if err != nil {
		return Object{}, err
	}
	d.crc = crc64NVME() // any: there is nothing to compare it with
	object, err := d.toFile(ctx, f, nil, e.partSize(), forget)
	if err != nil {
		return Object{}, err
	}
	object.Verified, err = e.readBack(ctx, r, v.Size, check)
	return object, err
}

// readBack compares what is in the file with what the server holds, and names that.
func (e *Engine) readBack(ctx context.Context, f io.ReaderAt, size int64, check verifier) (algorithm string, err error) {
	if _, nothing := check.(sizeOnly); nothing {
		return "", nil
	}
	buf := e.copyBuffer(size)
	defer e.giveBack(buf)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.ReadAt((*buf)[:min(int64(len(*buf)), size-at)], at)
		check.write((*buf)[:n])
		if at += int64(n); err != nil && at < size {
			return "", fmt.Errorf("read what arrived: %w", err)
		}
	}
	algorithm, ok := check.verify()
	if !ok {
		return "", checksumMismatch(algorithm)
	}
	return algorithm, nil
}

// held is what an answer to HEAD tells of an object, as an answer to GET would.
func held(head *s3.HeadObjectOutput) *s3.GetObjectOutput {
	return &s3.GetObjectOutput{
		ETag: head.ETag, ChecksumType: head.ChecksumType,
		ChecksumCRC64NVME: head.ChecksumCRC64NVME, ChecksumCRC32C: head.ChecksumCRC32C, ChecksumCRC32: head.ChecksumCRC32,
		ChecksumSHA256: head.ChecksumSHA256, ChecksumSHA1: head.ChecksumSHA1,
		SSECustomerAlgorithm: head.SSECustomerAlgorithm, ServerSideEncryption: head.ServerSideEncryption,
	}
}

// extent is bytes of an object that are where they belong, and their checksum.
type extent struct {
	from, to int64
	sum      uint64
}

// sizeOf returns how many bytes there are in extents that do not overlap.
func sizeOf(extents []extent) (size int64) {
	for _, x := range extents {
		size += x.to - x.from
	}
	return size
}

// rangedDownload is one version of an object on its way.
type rangedDownload struct {
	Version
	engine   *Engine
	key      string
	progress Progress
}

// toFile fills in what f has not kept, in ranges. record is told of each piece that
// is there, of that many bytes or what a range ends with, one at a time.
func (d *rangedDownload) toFile(ctx context.Context, f Sink, kept []extent, piece int64, record func(extent) error) (Object, error) {
	if err := preallocate(f, d.Size); err != nil {
		return Object{}, err
	}
	there := slices.Clone(kept)
	var mu, writing sync.Mutex
	add := func(x extent) error {
		mu.Lock()
		defer mu.Unlock()
		there = append(there, x)
		return record(x)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	limiter := d.engine.limiter(d.engine.partSize())
	for _, missing := range gaps(kept, d.Size, d.engine.rangeSize(d.Size-sizeOf(kept), limiter.Limit())) {
		slot, err := limiter.Acquire(groupCtx)
		if err != nil {
			break // of groupCtx, and told below
		}
		group.Go(func() error {
			defer slot.Release(missing.to - missing.from)
			s := &fileSink{engine: d.engine, f: f, writing: &writing, piece: piece, record: add, crc: d.crc, hash: d.crc.hash(), from: missing.from, at: missing.from}
			err := d.fetch(groupCtx, slot, missing.from, missing.to, s)
			if closeErr := s.close(); err == nil {
				err = closeErr
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Object{}, err
	}
	if err := ctx.Err(); err != nil {
		return Object{}, err
	}
	return d.verify(there)
}

// rangeSize returns how much of so many missing bytes is asked for in one request, where so many of them are in
// flight: parts, unless another size was asked for, as many as leave several requests for each place. Each
// request costs, and with servers that close the connection behind an answer a connection too.
func (e *Engine) rangeSize(missing int64, inFlight int) int64 {
	if e.PartSize > 0 {
		return e.partSize()
	}
	parts := missing / (rangesEach * int64(inFlight) * DefaultPartSize)
	return DefaultPartSize * max(1, min(parts, mostRange))
}

// gaps returns what is missing of size bytes beside kept, which is in order and does not overlap,
// in ranges of at most so many bytes.
func gaps(kept []extent, size, most int64) []extent {
	var missing []extent
	at := int64(0)
	for _, next := range append(slices.Clip(kept), extent{from: size, to: size}) {
		for at < next.from {
			to := min(at+most, next.from)
			missing = append(missing, extent{from: at, to: to})
			at = to
		}
		at = next.to
	}
	return missing
}

// verify compares the checksum of all extents together with that of the object.
func (d *rangedDownload) verify(there []extent) (Object, error) {
	slices.SortFunc(there, func(a, b extent) int { return cmp.Compare(a.from, b.from) })
	var whole uint64
	at := int64(0)
	for _, x := range there {
		if x.from != at {
			return Object{}, fmt.Errorf("%w: the bytes from %d to %d did not arrive once", ErrSize, min(at, x.from), max(at, x.from))
		}
		whole = d.crc.combine(whole, x.sum, x.to-x.from)
		at = x.to
	}
	switch {
	case at != d.Size:
		return Object{}, fmt.Errorf("%w: %d bytes of %d", ErrSize, at, d.Size)
	case d.InRanges() && d.crc.encode(whole) != d.want:
		return Object{}, checksumMismatch(d.crc.name)
	}
	return Object{Size: d.Size, ETag: d.ETag, Verified: d.Checksum}, nil
}

// rangeSink takes the bytes of a range in their order.
type rangeSink interface {
	// room returns where to read the next bytes to, of which at most so many will come.
	room(most int64) []byte
	// take is told that the first bytes of the last room were filled.
	take(p []byte) error
}

// fetch gets the bytes [from, to) into s. A body that breaks off is continued from where it broke.
func (d *rangedDownload) fetch(ctx context.Context, slot *limit.Slot, from, to int64, s rangeSink) error {
	at := from
	return d.engine.continuing(ctx, slot, func() (int64, error) {
		before := at
		err := d.fetchOnce(ctx, &at, to, s)
		return at - before, err
	})
}

func (d *rangedDownload) fetchOnce(ctx context.Context, at *int64, to int64, s rangeSink) error {
	e := d.engine
	if *at == to {
		return nil
	}
	out, err := e.S3.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &e.Bucket, Key: &d.key, IfMatch: &d.ETag, Range: aws.String(fmt.Sprintf("bytes=%d-%d", *at, to-1)),
	}, once)
	if err != nil {
		return changedIfMismatch(d.key, err)
	}
	defer func() { _ = out.Body.Close() }()
	if want := fmt.Sprintf("bytes %d-%d/%d", *at, to-1, d.Size); aws.ToString(out.ContentRange) != want {
		return fmt.Errorf("asked for %q, the server sent %q", want, aws.ToString(out.ContentRange))
	}
	for *at < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		room := s.room(to - *at)
		n, err := io.ReadFull(out.Body, room)
		if n > 0 {
			if err := s.take(room[:n]); err != nil {
				return &writeError{err}
			}
			*at += int64(n)
			d.progress.add(int64(n))
		}
		if err != nil {
			return &brokenBody{fmt.Errorf("at byte %d of %d: %w", *at, d.Size, err)}
		}
	}
	return nil
}

// rangeBufferSize is how much of a range is written at once, in bytes. A file system with large pages clears what the first
// write to one leaves, and who waits to write is woken half as often as with 256 KiB.
const rangeBufferSize = 512 << 10

// fileSink writes a range into a file and tells of each piece that is there.
type fileSink struct {
	engine *Engine
	f      io.WriterAt
	// writing is held while f is written to. Most local file systems let one write to a file at a time anyway, and
	// who waits in the kernel burns a processor meanwhile.
	writing *sync.Mutex
	piece   int64 // bytes
	record  func(extent) error
	crc     crc

	buf      *[]byte   // nil until the first bytes come: requests that wait for an answer need none
	hash     hash.Hash // of the piece under way, which has the bytes [from, at)
	from, at int64
}

func (s *fileSink) room(most int64) []byte {
	if s.buf == nil {
		s.buf = pooled(&s.engine.rangeBuffers, rangeBufferSize)
	}
	return (*s.buf)[:min(int64(len(*s.buf)), most, s.from+s.piece-s.at)]
}

func (s *fileSink) take(p []byte) error {
	_, _ = s.hash.Write(p) // a hash never fails; and before the wait, as long as p is in the processor's caches
	s.writing.Lock()
	_, err := s.f.WriteAt(p, s.at)
	s.writing.Unlock()
	if err != nil {
		s.from = s.at // nothing of the piece is recorded: its checksum is of more than what is there
		return err
	}
	s.at += int64(len(p))
	if s.at < s.from+s.piece {
		return nil
	}
	return s.end()
}

// end ends the piece under way.
func (s *fileSink) end() error {
	if s.at == s.from {
		return nil
	}
	x := extent{from: s.from, to: s.at, sum: s.crc.of(s.hash)}
	s.from = s.at
	s.hash.Reset()
	return s.record(x)
}

// close tells of the piece under way: what came before a failure is as good as any other.
func (s *fileSink) close() error {
	if s.buf != nil {
		s.engine.rangeBuffers.Put(s.buf)
	}
	return s.end()
}
