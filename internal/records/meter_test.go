package records_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/designfultech/filestore/internal/records"
)

// request makes a request that takes so long and costs so many units.
func request(t *testing.T, m *records.Meter, takes time.Duration, units float64) {
	t.Helper()
	done, err := m.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(takes)
	done(records.Cost{Requests: 1, Records: 10, Units: units})
}

func TestMeterCounts(t *testing.T) {
	m := records.NewMeter(0)
	for range 3 {
		request(t, m, 0, 2.5)
	}
	if got, want := m.Total(), (records.Cost{Requests: 3, Records: 30, Units: 7.5}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	var none *records.Meter
	request(t, none, 0, 1)
	if got := none.Total(); got != (records.Cost{}) {
		t.Errorf("no meter counts %+v", got)
	}
}

// Requests that cost ten seconds' units each, one after the other: each waits until that of the
// one before is paid.
func TestMeterPaysDebts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := records.NewMeter(12.8)
		begin := time.Now()
		var at []time.Duration
		for range 4 {
			request(t, m, 0, 128)
			at = append(at, time.Since(begin).Round(time.Millisecond))
		}
		for i, want := range []time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second} {
			if at[i] != want {
				t.Errorf("request %d after %s, want %s", i, at[i], want)
			}
		}
	})
}

// However many ask at once, and however long answers take: never more in t seconds than the rate
// allows for t+1, and one request. And not much less over a long time.
func TestMeterKeepsRate(t *testing.T) {
	const rate, each, requests = 100, 30.0, 200
	synctest.Test(t, func(t *testing.T) {
		m := records.NewMeter(rate)
		begin := time.Now()
		var mu sync.Mutex
		var at []time.Duration // when a request was let go
		var running sync.WaitGroup
		for range 8 {
			running.Go(func() {
				for range requests / 8 {
					done, err := m.Begin(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					at = append(at, time.Since(begin))
					mu.Unlock()
					time.Sleep(50 * time.Millisecond)
					done(records.Cost{Requests: 1, Units: each})
				}
			})
		}
		running.Wait()
		for i := range at {
			for j := i; j < len(at); j++ {
				taken, allowed := float64(j-i+1)*each, rate*((at[j]-at[i]).Seconds()+1)+each
				if taken > allowed+0.001 {
					t.Fatalf("%.0f units in %s", taken, at[j]-at[i])
				}
			}
		}
		if took, ideal := time.Since(begin).Seconds(), requests*each/rate; took > ideal*1.1 {
			t.Errorf("%.1f s for what the rate allows in %.1f", took, ideal)
		}
	})
}

// What was saved up while nobody asked is a second's units, not an hour's.
func TestMeterSavesLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := records.NewMeter(10)
		request(t, m, 0, 1)
		time.Sleep(time.Hour)
		begin := time.Now()
		for range 32 {
			request(t, m, 0, 1)
		}
		if took := time.Since(begin); took < 1900*time.Millisecond || took > 2200*time.Millisecond {
			t.Errorf("32 units took %s", took)
		}
	})
}

// A request that fails is not charged; one whose answer does not tell counts as expected.
func TestMeterWithoutCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := records.NewMeter(10)
		begin := time.Now()
		for range 100 {
			done, err := m.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			done(records.Cost{})
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("100 failures took %s", took)
		}
		for range 10 {
			request(t, m, 0, -1) // at first a request is taken for a second's units
		}
		if took := time.Since(begin).Round(time.Millisecond); took != 9*time.Second {
			t.Errorf("10 requests of unknown cost took %s", took)
		}
		if got := m.Total(); got.Units != 0 || got.Requests != 10 {
			t.Errorf("%+v", got)
		}
	})
}

func TestMeterCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := records.NewMeter(1e-9) // the first is paid in thousands of years
		request(t, m, 0, 128)
		ctx, cancel := context.WithTimeout(t.Context(), 100*24*time.Hour)
		defer cancel()
		if _, err := m.Begin(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if _, err := records.NewMeter(0).Begin(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

// A request of several writes is expected to take as much more, so that batches at the same time do
// not overdraw the budget together: 8 of them are 25 units each.
func TestMeterOfBatches(t *testing.T) {
	const rate, writes, batches = 50, 25, 40
	synctest.Test(t, func(t *testing.T) {
		m := records.NewMeter(rate)
		begin := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		var running sync.WaitGroup
		for range 8 {
			running.Go(func() {
				for range batches / 8 {
					done, err := m.BeginBatch(t.Context(), writes)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					at = append(at, time.Since(begin))
					mu.Unlock()
					time.Sleep(50 * time.Millisecond)
					done(records.Cost{Requests: 1, Records: writes, Units: writes})
				}
			})
		}
		running.Wait()
		for i := range at {
			for j := i; j < len(at); j++ {
				taken, allowed := float64(j-i+1)*writes, rate*((at[j]-at[i]).Seconds()+1)+writes
				if taken > allowed+0.001 {
					t.Fatalf("%.0f units in %s", taken, at[j]-at[i])
				}
			}
		}
		if took := time.Since(begin).Seconds(); took > 1.1*batches*writes/rate+float64(writes) {
			t.Errorf("%.1f s", took)
		}
		// A single write after batches takes what one of them did.
		if got := m.Total(); got != (records.Cost{Requests: batches, Records: batches * writes, Units: batches * writes}) {
			t.Errorf("%+v", got)
		}
	})
}

// A meter that is stopped lets nothing go any more, whoever waits; what is under way still counts.
func TestMeterStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := records.NewMeter(1e-9) // the first is paid in thousands of years
		underWay, err := m.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waits := make(chan error)
		go func() {
			_, err := m.Begin(t.Context())
			waits <- err
		}()
		synctest.Wait()
		m.Stop()
		if err := <-waits; !errors.Is(err, records.ErrStopped) {
			t.Errorf("who waits gets %v", err)
		}
		m.Stop() // does no harm
		if _, err := m.BeginBatch(t.Context(), 3); !errors.Is(err, records.ErrStopped) {
			t.Errorf("who comes later gets %v", err)
		}
		underWay(records.Cost{Requests: 1, Units: 128})
		if got := m.Total(); got != (records.Cost{Requests: 1, Units: 128}) {
			t.Errorf("%+v", got)
		}

		unlimited := records.NewMeter(0)
		unlimited.Stop()
		if _, err := unlimited.Begin(t.Context()); !errors.Is(err, records.ErrStopped) {
			t.Errorf("without a limit: %v", err)
		}
		(*records.Meter)(nil).Stop()
	})
}
