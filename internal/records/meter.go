package records

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Cost is what requests took: those of a scan, or writes.
type Cost struct {
	Requests int64
	// Records is how many records were looked at, or were to be written. A table that cannot tell
	// (SQLite) counts those that were selected.
	Records int64
	// Units are capacity units, as the service counts them: what its bill is made of. 0 where
	// it does not say, and where there are none.
	Units float64
}

// ErrStopped says that a request was not sent, since its [Meter] was stopped.
var ErrStopped = errors.New("no more requests are to be sent")

// Meter counts what requests cost, and can hold them back, so that they take no more than so
// many capacity units a second. It is safe for concurrent use, and its requests may be those of
// several scans. A nil *Meter counts nothing and holds back nothing.
//
// What a request costs is known only when it is answered (Amazon DynamoDB API Reference,
// "ConsumedCapacity"). So a request is let go once the budget is not overdrawn; what it is
// expected to take, as much as the one before, is reserved, and corrected by the answer. In any
// time of t seconds the requests take at most the rate times t+1, and what the last one of
// them takes: a page of a scan up to 128 units, a batch of writes up to 25 for records of a kilobyte.
type Meter struct {
	rate float64 // units a second; 0: as many as there are

	mu       sync.Mutex
	total    Cost
	balance  float64 // units that may be taken; below zero: overdrawn
	filled   time.Time
	expected float64       // units that the next request will take; of writes, each of them
	answered chan struct{} // closed, and made anew, when an answer has corrected the balance
	stopped  bool
}

// maxWait is after how long a waiting request looks again, however low the rate is.
const maxWait = time.Hour

// NewMeter returns a meter that holds requests back to unitsPerSecond; 0: it only counts.
func NewMeter(unitsPerSecond float64) *Meter {
	// Before the first answer nothing is known: as if each request took all of a second.
	return &Meter{rate: unitsPerSecond, expected: unitsPerSecond, answered: make(chan struct{})}
}

// Begin waits until a request may be sent. The caller calls done once it is answered, with what
// it cost, or with the zero Cost when it has failed. Units below zero say that the answer does
// not tell: the request counts as what was expected of it. The error is that of ctx, or [ErrStopped].
func (m *Meter) Begin(ctx context.Context) (done func(Cost), err error) { return m.BeginBatch(ctx, 1) }

// BeginBatch is Begin for a request that is expected to take n times as much as one: n writes. The
// error is that of ctx, or [ErrStopped].
func (m *Meter) BeginBatch(ctx context.Context, n int) (done func(Cost), err error) {
	if m == nil {
		return func(Cost) {}, ctx.Err()
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		wait, answered, reserved, err := m.reserve(n)
		if err != nil {
			return nil, err
		}
		if wait == 0 {
			return func(c Cost) { m.settle(n, reserved, c) }, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		case <-answered:
			timer.Stop()
		}
	}
}

// Stop lets no more requests go: those that wait and those that come later get [ErrStopped]. Requests
// that are under way are counted as ever.
func (m *Meter) Stop() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
	m.wake()
}

// wake has all that wait look again. The caller holds the lock.
func (m *Meter) wake() {
	close(m.answered)
	m.answered = make(chan struct{})
}

// reserve takes what n of the next request are expected to take; or says how long to wait before the
// next try, or until which answer.
func (m *Meter) reserve(n int) (wait time.Duration, answered <-chan struct{}, reserved float64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return 0, nil, 0, ErrStopped
	}
	if m.rate == 0 {
		return 0, nil, 0, nil
	}
	m.refill()
	if m.balance < 0 {
		// Rounded up: a timer that is a nanosecond early would go round once more.
		seconds := min(-m.balance/m.rate, maxWait.Seconds())
		return time.Duration(seconds*float64(time.Second)) + 1, m.answered, 0, nil
	}
	reserved = float64(n) * m.expected
	m.balance -= reserved
	return 0, nil, reserved, nil
}

// refill adds what the time since the last call has brought; at most a second's units are saved up.
func (m *Meter) refill() {
	now := time.Now()
	if !m.filled.IsZero() {
		m.balance = min(m.balance+m.rate*now.Sub(m.filled).Seconds(), m.rate)
	}
	m.filled = now
}

func (m *Meter) settle(n int, reserved float64, c Cost) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := c.Units >= 0
	if !known {
		c.Units = 0
	}
	m.total.Requests += c.Requests
	m.total.Records += c.Records
	m.total.Units += c.Units
	if m.rate == 0 || !known {
		return
	}
	m.refill()
	m.balance = min(m.balance+reserved-c.Units, m.rate)
	if c.Requests > 0 {
		m.expected = c.Units / float64(n)
	}
	m.wake()
}

// Total is what all answered requests have cost so far. A request that was broken off, since
// nobody waited for its answer any more, is not in it, though the service may count it.
func (m *Meter) Total() Cost {
	if m == nil {
		return Cost{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}
