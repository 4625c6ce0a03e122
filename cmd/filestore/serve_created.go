package main

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// settledAtOnce is how many announced objects are looked at at the same time. Most of the time goes
	// into one request to a server on this machine, and one write to a database that takes one at a time.
	settledAtOnce = 4
	// settleTries is how often it is tried to bring one record up to date: over half a minute.
	settleTries = 10
	// A try waits so long after the first failure, and twice as long after each other one.
	settleFirstWait = 100 * time.Millisecond
	settleMostWait  = 10 * time.Second
	// settleTimeout bounds one try.
	settleTimeout = 15 * time.Second
	// mostAnnounced bounds the memory that waiting keys take, where the records can't be written for long.
	mostAnnounced = 20_000
)

var errTooManyAnnounced = errors.New("too many uploads are waiting for it")

// announcements are the objects that an S3 server says it has, and whose records are to say so ("uploaded",
// docs/contract.md, "The transitions"). What fails is tried again, and told when it is given up: the record
// is then brought up to date when somebody asks for the file, as where there are no notifications.
type announcements struct {
	// settle brings the record of one object up to date. It may be called again with the same key.
	settle func(ctx context.Context, key string) error
	// lost is told of each key that was given up.
	lost func(key string, err error)

	ctx    context.Context // of all tries
	cancel context.CancelFunc
	ending chan struct{} // closed when nobody has time for long waits any more
	slots  chan struct{}

	mu      sync.Mutex // guards what follows
	waiting map[string]bool
	running sync.WaitGroup
}

func newAnnouncements(settle func(context.Context, string) error, lost func(string, error)) *announcements {
	n := &announcements{
		settle: settle, lost: lost,
		ending: make(chan struct{}), slots: make(chan struct{}, settledAtOnce),
		waiting: make(map[string]bool),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// add takes a key, and returns at once. One that is waiting already is not taken a second time.
func (n *announcements) add(key string) {
	n.mu.Lock()
	known := n.waiting[key]
	full := !known && len(n.waiting) >= mostAnnounced
	if !known && !full {
		n.waiting[key] = true
		n.running.Go(func() { n.work(key) })
	}
	n.mu.Unlock()
	if full {
		n.lost(key, errTooManyAnnounced)
	}
}

// work settles a key, and tries again for a while.
func (n *announcements) work(key string) {
	wait := settleFirstWait
	for try := 1; ; try++ {
		err := n.try(key)
		switch {
		case err == nil:
			return
		case try == settleTries || n.ctx.Err() != nil:
			n.lost(key, err)
			return
		case !n.waitAgain(key): // it was announced again
			return
		}
		select {
		case <-time.After(wait):
		case <-n.ending:
		case <-n.ctx.Done():
		}
		wait = min(2*wait, settleMostWait)
	}
}

func (n *announcements) try(key string) error {
	n.slots <- struct{}{}
	defer func() { <-n.slots }()
	n.mu.Lock()
	delete(n.waiting, key) // what is announced from now on may be something else
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(n.ctx, settleTimeout)
	defer cancel()
	return n.settle(ctx, key)
}

// waitAgain puts a key back, unless it was announced again meanwhile.
func (n *announcements) waitAgain(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	again := n.waiting[key]
	n.waiting[key] = true
	return !again
}

// drain returns when all that was announced is settled or given up, after limit at the latest. Nothing may be added
// any more.
func (n *announcements) drain(limit time.Duration) {
	close(n.ending)
	defer n.cancel()
	defer time.AfterFunc(limit, n.cancel).Stop()
	n.running.Wait()
}
