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

// Small requests begin with probeFiles in flight. As soon as one is answered from near, nearFiles of them keep the processors busy, and more only need more
// memory; else there are firstFiles at once: after the first answer from elsewhere, and on this machine, where the first requests of a process are slow on
// both sides, after probeAnswers.
const (
	probeFiles   = 4
	probeAnswers = 8
	nearFiles    = 32
)

// IsLoopback reports whether a connection stays on this machine, by TCP.
func IsLoopback(c net.Conn) bool {
	addr, ok := c.RemoteAddr().(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}

// timeAnswer returns a context for one call, and a function that tells afterwards whether its answer came from
// a near server, and whether the connection stays on this machine.
func timeAnswer(ctx context.Context) (context.Context, func() (near, loopback bool)) {
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
	return timed, func() (near, loopback bool) {
		loopback = here.Load()
		return loopback && sent.Load() != nil && took.Load() < int64(nearTime), loopback
	}
}

// small returns a context for a request for so many bytes, negative: not known, and what is to be called when it has ended. Of small
// ones the first answers decide how many others may be in flight with those after them.
func (e *Engine) small(ctx context.Context, size int64) (context.Context, func()) {
	if size > smallFile || e.placed.Load() {
		return ctx, func() {}
	}
	timed, answer := timeAnswer(ctx)
	return timed, func() {
		near, loopback := answer()
		if !near && loopback && e.probed.Add(1) < probeAnswers || !e.placed.CompareAndSwap(false, true) {
			return
		}
		if near {
			e.limiter(0).Settle(nearFiles)
			return
		}
		e.limiter(0).Climb(firstFiles)
	}
}
