package transfer

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"
	"testing/iotest"
	"time"
)

const (
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

// The parts of a file: as large as asked for, larger where there would be more than 10,000.
func TestFileParts(t *testing.T) {
	for _, tt := range []struct {
		name     string
		size     int64
		partSize int64
		want     int64 // bytes of each part but the last
		parts    int
		last     int64 // bytes of the last part
	}{
		{"one byte more than a part", 16*mib + 1, 16 * mib, 16 * mib, 2, 1},
		{"two parts", 32 * mib, 16 * mib, 16 * mib, 2, 16 * mib},
		{"one byte more than two", 32*mib + 1, 16 * mib, 16 * mib, 3, 1},
		{"one byte less than 10,000 parts", 10_000*16*mib - 1, 16 * mib, 16 * mib, 10_000, 16*mib - 1},
		{"10,000 parts, 156.25 GiB", 10_000 * 16 * mib, 16 * mib, 16 * mib, 10_000, 16 * mib},
		{"one byte more", 10_000*16*mib + 1, 16 * mib, 17 * mib, 9412, 13*mib + 1},
		{"157 GiB", 157 * gib, 16 * mib, 17 * mib, 9457, 16 * mib},
		{"1 TiB", tib, 16 * mib, 105 * mib, 9987, 46 * mib},
		{"5 TiB", 5 * tib, 16 * mib, 525 * mib, 9987, 230 * mib},
		{"--part-size 5M, far too small for 5 TiB", 5 * tib, 5 * mib, 525 * mib, 9987, 230 * mib},
		{"--part-size 5M, too small by a byte", 10_000*5*mib + 1, 5 * mib, 6 * mib, 8334, 2*mib + 1},
		{"--part-size 5M, just enough", 10_000 * 5 * mib, 5 * mib, 5 * mib, 10_000, 5 * mib},
		{"--part-size 5G", 5 * tib, 5 * gib, 5 * gib, 1024, 5 * gib},
		{"--part-size of odd bytes", 20 * mib, 5*mib + 1, 5*mib + 1, 4, 5*mib - 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next := fileParts(nil, tt.size, tt.partSize)
			var sizes []int64
			var total int64
			for {
				p, err := next(t.Context())
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				sizes = append(sizes, p.size)
				total += p.size
				if int(p.number) != len(sizes) {
					t.Fatalf("part %d has the number %d", len(sizes), p.number)
				}
			}
			if total != tt.size {
				t.Errorf("the parts have %d bytes, want %d", total, tt.size)
			}
			if len(sizes) != tt.parts || sizes[len(sizes)-1] != tt.last {
				t.Errorf("%d parts, the last of %d bytes; want %d, %d", len(sizes), sizes[len(sizes)-1], tt.parts, tt.last)
			}
			for i, size := range sizes[:len(sizes)-1] {
				if size != tt.want {
					t.Fatalf("part %d has %d bytes, want %d", i+1, size, tt.want)
				}
			}
			if len(sizes) > MaxParts || tt.want < MinPartSize || tt.want > MaxPartSize {
				t.Errorf("%d parts of %d bytes are more than S3 takes", len(sizes), tt.want)
			}
		})
	}
}

// The parts of a stream grow with their number, so that what they hold is enough however long it is.
func TestStreamPartSizes(t *testing.T) {
	var total int64
	for number := int32(1); number <= MaxParts; number++ {
		size := streamPartSize(number)
		if size < MinPartSize || size > MaxPartSize {
			t.Fatalf("part %d has %d bytes", number, size)
		}
		if number > 1 && size < streamPartSize(number-1) {
			t.Errorf("part %d is smaller than the one before", number)
		}
		total += size
		for _, tt := range []struct {
			number int32
			size   int64 // of this part
			total  int64 // up to this part
		}{
			{1, 8 * mib, 8 * mib},
			{1000, 8 * mib, 8000 * mib},
			{1001, 16 * mib, 8016 * mib},
			{2000, 16 * mib, 24_000 * mib},
			{9000, 2 * gib, 4_088_000 * mib},
			{10_000, 4 * gib, 8_184_000 * mib},
		} {
			if number == tt.number && (size != tt.size || total != tt.total) {
				t.Errorf("part %d has %d bytes, and %d up to it; want %d, %d", number, size, total, tt.size, tt.total)
			}
		}
	}
	if total < MaxObjectSize {
		t.Errorf("all parts hold %d bytes, less than the largest object", total)
	}
	// With --part-size 5M the first part alone is smaller.
	if total-streamPartSize(1)+MinPartSize < MaxObjectSize {
		t.Error("with a smaller first part they do not hold the largest object")
	}
}

// A stream is cut without a loss, wherever it ends, and fails as its reader does.
func TestStreamParts(t *testing.T) {
	broken := errors.New("the producer died")
	for _, tt := range []struct {
		name  string
		rest  int   // bytes after the first part of 5 MiB
		err   error // that comes after them
		parts []int64
	}{
		{"ends with the first part", 0, nil, []int64{5 * mib}},
		{"ends in the second part", 1, nil, []int64{5 * mib, 1}},
		{"ends with the second part", 8 * mib, nil, []int64{5 * mib, 8 * mib}},
		{"ends in the third part", 8*mib + 1, nil, []int64{5 * mib, 8 * mib, 1}},
		{"breaks off between two parts", 8 * mib, broken, []int64{5 * mib, 8 * mib}},
		{"breaks off in a part", 8*mib + 1, broken, []int64{5 * mib, 8 * mib}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			end := tt.err
			if end == nil {
				end = io.EOF
			}
			rest := io.MultiReader(bytes.NewReader(make([]byte, tt.rest)), iotest.ErrReader(end))
			next := streamParts(rest, make([]byte, 5*mib))
			for i, want := range tt.parts {
				p, err := next(t.Context())
				if err != nil || p.size != want || int(p.number) != i+1 {
					t.Fatalf("part %d: number %d, %d bytes, %v; want %d bytes", i+1, p.number, p.size, err, want)
				}
				p.done()
			}
			if _, err := next(t.Context()); !errors.Is(err, end) {
				t.Errorf("after the last part: %v, want %v", err, end)
			}
		})
	}
}

// What S3 can't hold is refused before anything is sent.
func TestTooLarge(t *testing.T) {
	_, err := (&Engine{}).UploadFile(t.Context(), "key", "text/plain", hugeFile{size: MaxObjectSize + 1}, nil)
	if failed, ok := errors.AsType[*UploadError](err); !ok || !errors.Is(err, ErrTooLarge) || failed.Outcome != NotWritten {
		t.Errorf("error %v, want %v", err, ErrTooLarge)
	}
}

// hugeFile is as large as it says, and can't be read.
type hugeFile struct {
	fs.FileInfo
	io.ReaderAt
	size int64
}

func (f hugeFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f hugeFile) Size() int64                { return f.size }
func (hugeFile) ModTime() time.Time           { return time.Time{} }

// The part size of an engine, as --part-size sets it.
func TestPartSize(t *testing.T) {
	for _, tt := range []struct{ set, want int64 }{
		{0, 16 * mib}, {5 * mib, 5 * mib}, {1, 5 * mib}, {64 * mib, 64 * mib}, {5 * gib, 5 * gib},
	} {
		if got := (&Engine{PartSize: tt.set}).partSize(); got != tt.want {
			t.Errorf("%d gives parts of %d bytes, want %d", tt.set, got, tt.want)
		}
	}
}
