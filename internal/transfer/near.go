package transfer

import (
	"context"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// A server is near where the connection stays on this machine and the answer comes sooner than in nearTime, so that
// it is not the near end of a tunnel. Client and server then share the processors, and nearParts ranges in flight, or parts
// over TLS, keep them busy: more of them only push each other's bytes out of the caches (docs/performance.md, "What was
// tried in the program").
const (
	nearTime  = 3 * time.Millisecond
	nearParts = 4
)

// Small requests begin with probeFiles in flight, of which the first answer tells whether the server is near. Then nearFiles of them keep
// the processors busy, and more only need more memory; else there are firstFiles at once.
const (
	probeFiles = 4
	nearFiles  = 32
)

// IsLoopback reports whether a connection stays on this machine, by TCP.
func IsLoopback(c net.Conn) bool {
	addr, ok := c.RemoteAddr().(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}

// timeAnswer returns a context for one call, and a function that tells afterwards whether its answer came from
// a near server.
func timeAnswer(ctx context.Context) (context.Context, func() (near bool)) {
	var here atomic.Bool
	var sent atomic.Pointer[time.Time]
	var took atomic.Int64 // nanoseconds, of the last try
	timed := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			here.Store(IsLoopback(info.Conn))
		},
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
	return timed, func() bool { return here.Load() && sent.Load() != nil && took.Load() < int64(nearTime) }
}

// small returns a context for a request for so many bytes, negative: not known, and what is to be called when it has ended. Of small
// ones the first answer decides how many others may be in flight with those after it.
func (e *Engine) small(ctx context.Context, size int64) (context.Context, func()) {
	if size > smallFile || e.placed.Load() {
		return ctx, func() {}
	}
	timed, near := timeAnswer(ctx)
	return timed, func() {
		if !e.placed.CompareAndSwap(false, true) {
			return
		}
		if near() {
			e.limiter(0).Begin(nearFiles)
			return
		}
		e.limiter(0).Climb(firstFiles)
	}
}
