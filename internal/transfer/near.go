package transfer

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// A server that answers sooner than in nearTime is beside this machine. Then nearParts requests in flight keep both
// busy, where they are limited by the processor: more of them only push each other's bytes out of its caches.
// That is so for ranges, and for parts over TLS (docs/performance.md, "What was tried in the program").
const (
	nearTime  = 3 * time.Millisecond
	nearParts = 4
)

// timeAnswer returns a context for one call, and a function that tells afterwards whether its answer came from
// nearby.
func timeAnswer(ctx context.Context) (context.Context, func() (near bool)) {
	var sent atomic.Pointer[time.Time]
	var took atomic.Int64 // nanoseconds, of the last try
	timed := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) {
			now := time.Now()
			sent.Store(&now)
		},
		GotFirstResponseByte: func() {
			if begin := sent.Load(); begin != nil {
				took.Store(int64(time.Since(*begin)))
			}
		},
	})
	return timed, func() bool { return sent.Load() != nil && took.Load() < int64(nearTime) }
}
