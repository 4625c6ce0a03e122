// Package limit bounds how many requests to a service are in flight, and finds the bound by
// itself: it is raised while more requests bring more throughput, lowered when they only wait for
// each other, and cut when the service says that it is asked too much.
package limit

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// Limiter is a semaphore whose size adapts. It is safe for concurrent use.
//
// Throughput is measured in windows of as many requests as may be in flight, and at least a few
// milliseconds. The climb begins by doubling, as TCP's slow start does (RFC 5681, section 3.1);
// the first window that brings little more ends it. From then on one step up is tried now and
// then. A throttled request halves the bound, at most once for all that were in flight with it,
// and success raises it again step by step (additive increase, multiplicative decrease).
type Limiter struct {
	lowest, highest int
	fixed           bool
	now             func() time.Time

	mu       sync.Mutex
	limit    int
	inFlight int
	waiting  list.List // of chan struct{}, first come first served

	window struct {
		begin     time.Time
		requests  int
		weight    int64
		saturated bool // somebody waited: the bound was what limited the throughput
	}
	rate     float64 // of the best bound so far, weight a second
	previous int     // the bound before the last raise; 0: no raise to be judged
	climbing bool    // the first climb, by doubling
	hold     int     // windows until the next try
	foreign  int     // requests still to be answered before Throttled counts again
	epoch    int     // counts cuts: requests begun before the last one do not cut again
}

// The pace of adaptation.
const (
	shortestWindow = 5 * time.Millisecond
	holdWindows    = 8    // between two tries of one step up
	worthwhile     = 1.05 // a raise that brings less is taken back
)

// requestWeight is what a request weighs beside its bytes: small ones are limited by their
// number, large ones by the bytes they move.
const requestWeight = 32 << 10

// New returns a limiter that begins with start requests in flight and keeps to lowest and highest.
func New(start, lowest, highest int) *Limiter {
	return &Limiter{lowest: lowest, highest: highest, limit: start, climbing: true, now: time.Now}
}

// Fixed returns a limiter that always allows n requests.
func Fixed(n int) *Limiter { return &Limiter{limit: n, fixed: true, now: time.Now} }

// Begin sets the bound to begin with, for who knows that it is about right: there is no climb by doubling from there,
// only one step up now and then. It comes too late, and does nothing, once a request has ended.
func (l *Limiter) Begin(start int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.window.begin.IsZero() {
		l.settle(start)
	}
}

// Settle is [Limiter.Begin] for who has begun with few and learns that it is about right, also after requests have ended. It
// does nothing once one was throttled.
func (l *Limiter) Settle(at int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(at)
}

func (l *Limiter) settle(at int) {
	if l.fixed || l.epoch != 0 {
		return
	}
	l.limit = max(l.lowest, min(at, l.highest))
	l.climbing, l.hold = false, holdWindows
	l.anew()
}

// Climb sets the bound to climb from, for who has begun with few and learns that more are needed. It does nothing to a higher one, nor
// once a request was throttled.
func (l *Limiter) Climb(start int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fixed || l.epoch != 0 || l.limit >= min(start, l.highest) {
		return
	}
	l.limit = min(start, l.highest)
	l.climbing = true
	l.anew()
}

// anew forgets what was measured with another bound.
func (l *Limiter) anew() {
	l.previous, l.rate = 0, 0
	if !l.window.begin.IsZero() {
		l.restart()
	}
	l.admit()
}

// Slot is the leave to have one request in flight.
type Slot struct {
	limiter *Limiter
	epoch   int
}

// Acquire waits until one more request may be in flight, or until ctx ends. Every slot must be
// released.
func (l *Limiter) Acquire(ctx context.Context) (*Slot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	if l.inFlight < l.limit && l.waiting.Len() == 0 {
		l.inFlight++
		slot := &Slot{l, l.epoch}
		l.mu.Unlock()
		return slot, nil
	}
	l.window.saturated = true
	turn := make(chan struct{})
	place := l.waiting.PushBack(turn)
	l.mu.Unlock()

	select {
	case <-turn:
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		select {
		case <-turn: // its turn came at the same moment: it goes to the next
			l.inFlight--
			l.admit()
		default:
			l.waiting.Remove(place)
		}
		return nil, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Slot{l, l.epoch}, nil
}

// Throttled says that the service asks for fewer requests. It reports whether there will be fewer from
// now on: the bound is lower than when this request began, or began again.
func (s *Slot) Throttled() (lower bool) {
	l := s.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fixed {
		return false
	}
	if s.epoch != l.epoch {
		s.epoch = l.epoch
		return true
	}
	lower = l.limit > l.lowest
	l.epoch++
	l.limit = max(l.lowest, l.limit/2)
	l.climbing, l.previous, l.rate, l.hold = false, 0, 0, 1
	l.restart()
	// Its own next try may cut again, should the service still say so.
	s.epoch = l.epoch
	return lower
}

// Throttled says that a service which the same work needs, and which takes no slots, asks for fewer
// requests. It counts once for all that were in flight together.
func (l *Limiter) Throttled() {
	l.mu.Lock()
	if l.foreign > 0 {
		l.mu.Unlock()
		return
	}
	l.foreign = max(1, l.inFlight)
	slot := &Slot{l, l.epoch}
	l.mu.Unlock()
	slot.Throttled()
}

// Release gives the slot back after a request that has moved bytes.
func (s *Slot) Release(bytes int64) {
	l := s.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.foreign = max(0, l.foreign-1)
	if !l.fixed {
		l.measure(bytes)
	}
	l.admit()
}

// Limit returns how many requests may be in flight at present.
func (l *Limiter) Limit() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit
}

// Highest returns how many requests there will ever be in flight.
func (l *Limiter) Highest() int {
	if l.fixed {
		return l.limit
	}
	return l.highest
}

// admit lets in who waits, as long as there is room.
func (l *Limiter) admit() {
	for l.inFlight < l.limit && l.waiting.Len() > 0 {
		turn := l.waiting.Remove(l.waiting.Front()).(chan struct{}) //nolint:forcetypeassert // see waiting
		l.inFlight++
		close(turn)
	}
}

// measure counts a request, and judges the bound when a window is full.
func (l *Limiter) measure(bytes int64) {
	w := &l.window
	if w.begin.IsZero() {
		l.restart()
		return
	}
	w.requests++
	w.weight += bytes + requestWeight
	elapsed := l.now().Sub(w.begin)
	if w.requests < l.limit || elapsed < shortestWindow {
		return
	}
	rate, saturated := float64(w.weight)/elapsed.Seconds(), w.saturated
	l.restart()
	if saturated {
		l.judge(rate)
	}
}

func (l *Limiter) restart() {
	l.window.begin = l.now()
	l.window.requests, l.window.weight = 0, 0
	l.window.saturated = l.waiting.Len() > 0
}

// judge sets the bound by the rate of a window in which it was reached.
func (l *Limiter) judge(rate float64) {
	switch {
	case l.previous != 0 && rate < l.rate*worthwhile:
		// The last raise brought nothing: what is in flight more only waits.
		l.limit, l.previous, l.climbing, l.hold = l.previous, 0, false, holdWindows
		return
	case l.climbing:
		l.rate = max(l.rate, rate)
		l.raise(l.limit * 2)
	case l.hold > 0:
		l.hold--
		l.previous = 0
		l.rate = rate
	default:
		l.rate = rate
		l.hold = 1
		l.raise(l.limit + max(1, l.limit/8))
	}
}

func (l *Limiter) raise(to int) {
	l.previous = 0
	if to = min(to, l.highest); to > l.limit {
		l.previous, l.limit = l.limit, to
	}
}
