package transfer

import "github.com/designfultech/filestore/internal/limit"

// What each request in flight should get where the bandwidth is limited, in bytes a second. Servers
// give up a request that comes too slowly (Amazon S3 API Reference, "Error responses":
// RequestTimeout), and whatever breaks off has to be sent again.
const (
	partShare = 256 << 10
	fileShare = 64 << 10
)

// adaptive returns a limiter that begins with first requests in flight and keeps to the bounds
// fewest and most; to fewer where the bandwidth is limited, so that each of them gets its share.
func (e *Engine) adaptive(share int64, first, fewest, most int) *limit.Limiter {
	if e.Bandwidth > 0 {
		// Two at least: while one waits for its answer the other goes on.
		most = int(min(int64(most), max(2, e.Bandwidth/share)))
	}
	return limit.New(min(first, most), min(fewest, most), most)
}
