package client_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/designfultech/filestore/internal/client"
)

func numbers(n int) []int {
	items := make([]int, n)
	for i := range items {
		items[i] = i
	}
	return items
}

func double(_ context.Context, n int) int { return 2 * n }

func TestInOrder(t *testing.T) {
	items := numbers(5000)
	got := slices.Collect(client.InOrder(t.Context(), items, 32, double))
	for i, n := range got {
		if n != 2*i {
			t.Fatalf("result %d is %d", i, n)
		}
	}
	if len(got) != len(items) {
		t.Errorf("%d results of %d", len(got), len(items))
	}
}

// However the consumer stops, nothing is left running, and a panic gets through.
func TestInOrderStopped(t *testing.T) {
	for _, stop := range []int{0, 1, 31, 32, 33, 4999} {
		seen := 0
		for range client.InOrder(t.Context(), numbers(5000), 32, double) {
			if seen++; seen > stop {
				break
			}
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("the panic was lost")
		}
	}()
	for range client.InOrder(t.Context(), numbers(5000), 32, double) {
		panic("in the consumer")
	}
}

// When the context ends, every item still gets its result: f says that it was not done.
func TestInOrderCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := 0
	results := 0
	for err := range client.InOrder(ctx, numbers(1000), 4, func(ctx context.Context, n int) error {
		if n == 10 {
			cancel()
		}
		return ctx.Err()
	}) {
		results++
		if err != nil {
			cancelled++
		}
	}
	if results != 1000 || cancelled < 900 {
		t.Errorf("%d results, %d of them not done", results, cancelled)
	}
}

// A limit that is raised while all calls wait is noticed.
func TestInOrderWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limit, underWay, most atomic.Int64
		limit.Store(2)
		raised := make(chan struct{})
		go func() {
			time.Sleep(time.Second)
			if got := most.Load(); got != 2 {
				t.Errorf("%d at once, want 2", got)
			}
			limit.Store(7)
			time.Sleep(time.Second)
			close(raised)
		}()
		now := func() int { return int(limit.Load()) }
		results := slices.Collect(client.InOrderWithin(t.Context(), numbers(50), 10, now, func(_ context.Context, n int) int {
			if here := underWay.Add(1); here > most.Load() {
				most.Store(here)
			}
			<-raised
			underWay.Add(-1)
			return n
		}))
		if !slices.Equal(results, numbers(50)) || most.Load() != 7 {
			t.Errorf("%d at once, want 7; results %v", most.Load(), results)
		}
	})
}
