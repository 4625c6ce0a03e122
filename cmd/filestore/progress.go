package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// plainInterval is how often long work says where it is when no terminal shows a bar.
const plainInterval = 10 * time.Second

// progress shows how many bytes have moved: a bar on a terminal, else a plain line every
// 10 seconds, nothing with -q. Its methods may be called from several goroutines.
type progress struct {
	app  *app
	what string
	stop context.CancelFunc
	done sync.WaitGroup

	mu    sync.Mutex
	bar   *progressbar.ProgressBar // nil where a line is written instead
	moved int64
	total int64 // -1: not known
}

// startProgress begins to show what is being done to total bytes, -1 where that isn't known.
func (a *app) startProgress(ctx context.Context, what string, total int64) *progress {
	p := &progress{app: a, what: what, total: total, stop: func() {}}
	switch dumb := a.isDumb(); {
	case a.flags.quiet:
		return p
	case a.stderrTTY && !dumb:
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(a.stderr),
			progressbar.OptionSetDescription(what),
			progressbar.OptionShowBytes(true),
			progressbar.OptionUseIECUnits(true),
			progressbar.OptionShowTotalBytes(true),
			progressbar.OptionShowCount(),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionSetWidth(24),
		)
		a.mu.Lock()
		a.bar = p
		a.mu.Unlock()
	default:
		ctx, p.stop = context.WithCancel(ctx)
		p.done.Go(func() { p.lines(ctx) })
	}
	return p
}

// isDumb reports whether the terminal was asked to get nothing but lines.
func (a *app) isDumb() bool {
	terminal, _ := a.lookupEnv("TERM")
	return terminal == "dumb"
}

// add is a transfer.Progress.
func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved += n
	if p.bar != nil {
		_ = p.bar.Add64(n) // a bar that can't be drawn is no reason to stop
	}
}

func (p *progress) lines(ctx context.Context) {
	ticker := time.NewTicker(plainInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.app.message("progress", "%s", p.line())
		}
	}
}

func (p *progress) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.total < 0 {
		return fmt.Sprintf("%s: %s", p.what, iecSize(p.moved))
	}
	return fmt.Sprintf("%s: %s of %s", p.what, iecSize(p.moved), iecSize(p.total))
}

// clear wipes the bar off the screen so that a message can be written. The bar draws itself
// anew with its next step. The caller holds app.mu.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}

// end takes the bar away.
func (p *progress) end() {
	p.stop()
	p.done.Wait()
	p.app.mu.Lock()
	defer p.app.mu.Unlock()
	if p.app.bar == p {
		p.clear()
		p.app.bar = nil
	}
}
