package main

import (
	"context"
	"io"
	"time"
)

// interruptible returns a reader of r that fails once ctx has ended, also while a read waits for
// a producer that says nothing. That read is left behind: the process is about to end.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	pr, pw := io.Pipe()
	stop := context.AfterFunc(ctx, func() { _ = pw.CloseWithError(ctx.Err()) })
	go func() {
		defer stop()
		_, err := io.CopyBuffer(struct{ io.Writer }{pw}, struct{ io.Reader }{r}, make([]byte, 256<<10))
		_ = pw.CloseWithError(err)
	}()
	return pr
}

// outputGrace is how long after an interrupt somebody may take to read what was done.
const outputGrace = time.Second

// patientWriter is a writer to w that gives up, soon after ctx has ended, when nobody reads what is
// written. That write is left behind: the process is about to end.
type patientWriter struct {
	ctx    context.Context // an io.Writer is given none
	w      io.Writer
	buf    []byte // what a write that is left behind goes on to use
	failed error
}

func (p *patientWriter) Write(data []byte) (int, error) {
	if p.failed != nil {
		return 0, p.failed
	}
	type result struct {
		n   int
		err error
	}
	p.buf = append(p.buf[:0], data...)
	done := make(chan result, 1)
	go func() {
		n, err := p.w.Write(p.buf)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-p.ctx.Done():
	}
	timer := time.NewTimer(outputGrace)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.n, r.err
	case <-timer.C:
		p.failed = p.ctx.Err()
		return 0, p.failed
	}
}
