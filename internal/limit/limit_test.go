package limit_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/designfultech/filestore/internal/limit"
)

// load has n requests go through l, each carried out by serve, and returns how long they took and
// how many were in flight at most.
func load(t *testing.T, l *limit.Limiter, n int, bytes int64, serve func(*limit.Slot)) (time.Duration, int64) {
	t.Helper()
	var group sync.WaitGroup
	var inFlight, most atomic.Int64
	begin := time.Now()
	for range n {
		group.Go(func() {
			slot, err := l.Acquire(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			for now := inFlight.Add(1); ; {
				seen := most.Load()
				if now <= seen || most.CompareAndSwap(seen, now) {
					break
				}
			}
			serve(slot)
			inFlight.Add(-1)
			slot.Release(bytes)
		})
	}
	group.Wait()
	return time.Since(begin), most.Load()
}

func TestFixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took, most := load(t, limit.Fixed(3), 30, 0, func(*limit.Slot) { time.Sleep(time.Second) })
		if most != 3 || took != 10*time.Second {
			t.Errorf("30 requests of 1 s took %v, %d at once; want 10s, 3", took, most)
		}
	})
}

// Who learns that few requests are enough says so before the first has ended; later it is too late.
func TestBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(32, 4, 64)
		for asked, want := range map[int]int{6: 6, 1: 4, 1000: 64} {
			if l.Begin(asked); l.Limit() != want {
				t.Errorf("begins with %d at once, want %d", l.Limit(), want)
			}
		}
		l.Begin(6)
		slot, err := l.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slot.Release(0)
		if l.Begin(20); l.Limit() != 6 {
			t.Errorf("%d at once after a request has ended, want 6", l.Limit())
		}
		// Nothing is doubled from there, though it would pay.
		l = limit.New(32, 4, 64)
		l.Begin(6)
		if _, most := load(t, l, 8*6, 4096, func(*limit.Slot) { time.Sleep(20 * time.Millisecond) }); most != 6 {
			t.Errorf("%d at once at most, want 6", most)
		}
		fixed := limit.Fixed(3)
		if fixed.Begin(20); fixed.Limit() != 3 {
			t.Errorf("%d at once where 3 are fixed", fixed.Limit())
		}
	})
}

// Who learns that few are enough after requests have ended says so then, unless the service has asked for fewer.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(4, 2, 100)
		load(t, l, 5, 4096, func(*limit.Slot) {})
		for asked, want := range map[int]int{32: 32, 1: 2, 1000: 100} {
			if l.Settle(asked); l.Limit() != want {
				t.Errorf("told of %d: %d at once, want %d", asked, l.Limit(), want)
			}
		}
		// Nothing is doubled from there, though it would pay.
		l.Settle(6)
		if _, most := load(t, l, 8*6, 4096, func(*limit.Slot) { time.Sleep(20 * time.Millisecond) }); most != 6 {
			t.Errorf("%d at once at most, want 6", most)
		}
		l = limit.New(4, 2, 100)
		load(t, l, 1, 4096, func(slot *limit.Slot) { slot.Throttled() })
		if l.Settle(32); l.Limit() > 4 {
			t.Errorf("%d at once after the service asked for fewer", l.Limit())
		}
	})
}

// Who learns that many are needed says so whenever that is; the climb goes on from there.
func TestClimb(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(4, 2, 100)
		load(t, l, 1, 4096, func(*limit.Slot) {})
		for _, step := range []struct{ asked, want int }{{2, 4}, {32, 32}, {8, 32}} {
			if l.Climb(step.asked); l.Limit() != step.want {
				t.Errorf("told of %d: %d at once, want %d", step.asked, l.Limit(), step.want)
			}
		}
		load(t, l, 2000, 4096, func(*limit.Slot) { time.Sleep(20 * time.Millisecond) })
		if l.Limit() != 100 {
			t.Errorf("%d at once in the end, want 100", l.Limit())
		}
		l = limit.New(4, 2, 100)
		load(t, l, 1, 4096, func(slot *limit.Slot) { slot.Throttled() })
		if l.Climb(32); l.Limit() > 4 {
			t.Errorf("%d at once after the service asked for fewer", l.Limit())
		}
	})
}

// Where every request just takes its time, more of them are faster.
func TestClimbsWithLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(8, 2, 100)
		load(t, l, 2000, 4096, func(*limit.Slot) { time.Sleep(20 * time.Millisecond) })
		if got := l.Limit(); got != 100 {
			t.Errorf("%d at once in the end, want 100", got)
		}
	})
}

// A server that does one thing at a time gains nothing by a longer queue.
func TestStaysWhereMoreBringsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(8, 2, 256)
		server := make(chan struct{}, 1) // not a mutex, which would stop the clock
		_, most := load(t, l, 2000, 4096, func(*limit.Slot) {
			server <- struct{}{}
			time.Sleep(time.Millisecond)
			<-server
		})
		if got := l.Limit(); got > 32 || most > 32 {
			t.Errorf("%d at once in the end, %d at most; want no more than 32", got, most)
		}
	})
}

// A server that refuses what exceeds its limit is asked for about as much as it takes.
func TestKeepsToWhatTheServiceAllows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const allowed = 20
		l := limit.New(64, 2, 256)
		var inFlight, refused atomic.Int64
		load(t, l, 5000, 4096, func(slot *limit.Slot) {
			for inFlight.Add(1) > allowed {
				inFlight.Add(-1)
				refused.Add(1)
				slot.Throttled()
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(10 * time.Millisecond)
			inFlight.Add(-1)
		})
		if got := l.Limit(); got < allowed/3 || got > 2*allowed {
			t.Errorf("%d at once in the end, %d are allowed", got, allowed)
		}
		if n := refused.Load(); n > 1000 {
			t.Errorf("%d refusals for 5000 requests", n)
		}
	})
}

// All requests that were in flight together are refused together: that is one sign, not many.
func TestOneCutForAllInFlight(t *testing.T) {
	l := limit.New(32, 2, 64)
	slots := make([]*limit.Slot, 32)
	for i := range slots {
		var err error
		if slots[i], err = l.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range slots {
		s.Throttled()
	}
	if got := l.Limit(); got != 16 {
		t.Errorf("limit %d, want 16", got)
	}
	slots[0].Throttled() // its second try was refused too
	if got := l.Limit(); got != 8 {
		t.Errorf("limit %d, want 8", got)
	}
	for range 10 {
		slots[0].Throttled()
	}
	if got := l.Limit(); got != 2 {
		t.Errorf("limit %d, want the lowest, 2", got)
	}
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.Fixed(1)
		held, err := l.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that of the context", err)
		}
		held.Release(0)
		// Nobody who has gone keeps a place.
		slot, err := l.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slot.Release(0)
	})
}

// Contexts that end at the moment of their turn must not lose slots.
func TestNoSlotIsLost(t *testing.T) {
	l := limit.Fixed(2)
	var group sync.WaitGroup
	for range 1000 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Microsecond)
			defer cancel()
			if slot, err := l.Acquire(ctx); err == nil {
				slot.Release(0)
			}
		})
	}
	group.Wait()
	for range 2 {
		if _, err := l.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkAcquire(b *testing.B) {
	l := limit.New(64, 4, 256)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			slot, err := l.Acquire(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			slot.Release(4096)
		}
	})
}

// A service beside, that takes no slots, lowers the bound once for all that were in flight when it
// began to complain.
func TestThrottledByAnotherService(t *testing.T) {
	l := limit.New(64, 4, 256)
	var slots []*limit.Slot
	for range 10 {
		slot, err := l.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slots = append(slots, slot)
	}
	for range 10 {
		l.Throttled()
	}
	if got := l.Limit(); got != 32 {
		t.Errorf("after the first complaints %d may be in flight, want 32", got)
	}
	for _, slot := range slots {
		slot.Release(0)
	}
	l.Throttled()
	if got := l.Limit(); got != 16 {
		t.Errorf("after the next one %d may be in flight, want 16", got)
	}
}
