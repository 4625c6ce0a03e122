package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/schollz/progressbar/v3"
)

const (
	// plainInterval is how often long work says where it is when no terminal shows a bar.
	plainInterval = 10 * time.Second
	// barInterval is how often a bar is drawn.
	barInterval = 100 * time.Millisecond
)

// progress shows how many bytes have moved, and of how many files: a bar on a terminal, else a
// plain line every 10 seconds, nothing with -q. Its methods may be called from several goroutines;
// those that count cost next to nothing.
type progress struct {
	app   *app
	what  string
	total int64 // bytes; -1: not known
	files int64 // 0: not counted; -1: counted, of a number that isn't known
	stop  context.CancelFunc
	done  sync.WaitGroup

	moved      atomic.Int64
	filesEnded atomic.Int64

	// Guarded by app.mu.
	bar   *progressbar.ProgressBar // nil where a line is written instead
	label string                   // that the bar has
	room  int                      // columns for the label
}

// startProgress begins to show what is being done to total bytes, -1 where that isn't known. With
// more than one file it is shown how many have ended; files is -1 where it isn't known how many there are.
func (a *app) startProgress(ctx context.Context, what string, total int64, files int) *progress {
	p := a.noProgress()
	p.what, p.total = what, total
	if files > 1 || files < 0 {
		p.files = int64(files)
	}
	if a.flags.quiet {
		return p
	}
	ctx, p.stop = context.WithCancel(ctx)
	if !a.stderrTTY || a.isDumb() || a.log != nil {
		p.done.Go(func() { every(ctx, plainInterval, func() { a.say(p.message()) }) })
		return p
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p.bar, p.room = a.newBar(total)
	a.bar = p
	p.done.Go(func() { every(ctx, barInterval, p.draw) })
	return p
}

// noProgress counts, and shows nothing.
func (a *app) noProgress() *progress { return &progress{app: a, stop: func() {}} }

// newBar returns a bar that fits the terminal, and how many columns it leaves for a label.
func (a *app) newBar(total int64) (bar *progressbar.ProgressBar, room int) {
	columns := 80
	if a.columns != nil {
		columns = a.columns()
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionThrottle(barInterval / 2),
		progressbar.OptionClearOnFinish(),
	}
	// What is beside the bar and its label: "100% ||", and "(1023.9/1023.9 MiB, 1023.9 MiB/s) [1h0m0s:1h0m0s]".
	const least, amounts = 9, 52
	switch {
	case columns >= 120:
		options = append(options, progressbar.OptionSetWidth(24), progressbar.OptionShowTotalBytes(true), progressbar.OptionShowCount())
		room = columns - 24 - least - amounts
	case columns >= 90:
		options = append(options, progressbar.OptionSetWidth(8), progressbar.OptionShowTotalBytes(true), progressbar.OptionShowCount())
		room = columns - 8 - least - amounts
	case columns >= 70: // no times
		options = append(options, progressbar.OptionSetWidth(6), progressbar.OptionShowTotalBytes(true), progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
		room = columns - 6 - least - len(" (1023.9/1023.9 MiB, 1023.9 MiB/s)")
	default: // the percentage and the rate alone
		width := max(columns/8, 2)
		options = append(options, progressbar.OptionSetWidth(width), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
		room = columns - width - least - len(" (1023.9 MiB/s)")
	}
	return progressbar.NewOptions64(total, options...), max(room, 1)
}

// every calls f at intervals until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}

// isDumb reports whether the terminal was asked to get nothing but lines.
func (a *app) isDumb() bool {
	terminal, _ := a.lookupEnv("TERM")
	return terminal == "dumb"
}

// add is a transfer.Progress.
func (p *progress) add(n int64) { p.moved.Add(n) }

// fileEnded counts one file, whatever became of it.
func (p *progress) fileEnded() { p.filesEnded.Add(1) }

// bytes returns how many have moved, as far as that can be true: what is sent again was taken back
// before, and a file that grows is refused in the end.
func (p *progress) bytes() int64 {
	moved := max(p.moved.Load(), 0)
	if p.total >= 0 {
		moved = min(moved, p.total)
	}
	return moved
}

// message says where the work is, without a terminal.
func (p *progress) message() message {
	bytes := p.bytes()
	m := message{kind: "progress", text: fmt.Sprintf("%s: %s", p.what, iecSize(bytes)), attrs: []slog.Attr{slog.Int64("bytes", bytes)}}
	if p.total >= 0 {
		m.text += " of " + iecSize(p.total)
		m.attrs = append(m.attrs, slog.Int64("bytes_total", p.total))
	}
	ended := p.filesEnded.Load()
	switch {
	case p.files > 0:
		m.text += fmt.Sprintf(", %d of %d files", ended, p.files)
		m.attrs = append(m.attrs, slog.Int64("files", ended), slog.Int64("files_total", p.files))
	case p.files < 0:
		m.text += ", " + thousandsOf(ended, "file", "files")
		m.attrs = append(m.attrs, slog.Int64("files", ended))
	}
	return m
}

// draw brings the bar up to date. One that can't be drawn is no reason to stop.
func (p *progress) draw() {
	p.app.mu.Lock()
	defer p.app.mu.Unlock()
	label := p.what
	switch {
	case p.files > 0:
		label = fmt.Sprintf("%s %d/%d files", p.what, p.filesEnded.Load(), p.files)
	case p.files < 0:
		label = p.what + " " + thousandsOf(p.filesEnded.Load(), "file", "files")
	}
	if label = runewidth.Truncate(label, p.room, "…"); label != p.label {
		p.label = label
		p.bar.Describe(label)
	}
	moved := p.bytes()
	if p.total > 0 {
		// A bar that has reached its end is gone, also where something has to be sent again.
		moved = min(moved, p.total-1)
	}
	_ = p.bar.Set64(moved)
}

// clear wipes the bar off the screen so that something else can be written. The bar comes back by
// itself. The caller holds app.mu.
func (p *progress) clear() {
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
