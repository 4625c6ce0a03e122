package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errNotNow = errors.New("not now")

// settler counts the tries of each key, and fails the first ones.
type settler struct {
	mu    sync.Mutex
	fails int
	tries []string
	lost  []string
}

func (s *settler) announcements() *announcements {
	return newAnnouncements(
		func(_ context.Context, key string) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.tries = append(s.tries, key)
			if len(s.tries) <= s.fails {
				return errNotNow
			}
			return nil
		},
		func(key string, err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.lost = append(s.lost, fmt.Sprintf("%s: %v", key, err))
		})
}

// What fails is tried again until it works.
func TestAnnouncedTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &settler{fails: 3}
		n := s.announcements()
		n.add("a")
		time.Sleep(time.Second) // 0.1, 0.2 and 0.4 s
		synctest.Wait()
		if want := []string{"a", "a", "a", "a"}; !slices.Equal(s.tries, want) || s.lost != nil {
			t.Errorf("tried %q, lost %q", s.tries, s.lost)
		}
		n.drain(time.Second)
	})
}

// What never works is told.
func TestAnnouncedGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &settler{fails: 1000}
		n := s.announcements()
		begin := time.Now()
		n.add("a")
		n.running.Wait()
		if len(s.tries) != settleTries || !slices.Equal(s.lost, []string{"a: not now"}) {
			t.Errorf("%d tries, lost %q", len(s.tries), s.lost)
		}
		if took := time.Since(begin); took < 30*time.Second || took > time.Minute {
			t.Errorf("it took %s", took)
		}
		n.drain(time.Second)
	})
}

// The end waits for what is under way, tries once more what failed, and not for ever.
func TestAnnouncedDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &settler{fails: 6}
		n := s.announcements()
		n.add("a")
		time.Sleep(4 * time.Second) // 6 tries; the next would come in 3 s
		synctest.Wait()
		begin := time.Now()
		n.drain(time.Second)
		if took := time.Since(begin); took != 0 || len(s.tries) != 7 || s.lost != nil {
			t.Errorf("after %s %d tries, lost %q", took, len(s.tries), s.lost)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var lost []string
		n := newAnnouncements(
			func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() },
			func(key string, _ error) { lost = append(lost, key) })
		n.add("a")
		begin := time.Now()
		n.drain(2 * time.Second)
		if took := time.Since(begin); took != 2*time.Second || !slices.Equal(lost, []string{"a"}) {
			t.Errorf("after %s, lost %q", took, lost)
		}
	})
}

// One that is announced while it waits is settled once, and one that is announced while it is being looked at once
// more.
func TestAnnouncedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries int
		goOn := make(chan struct{})
		n := newAnnouncements(
			func(context.Context, string) error { tries++; <-goOn; return nil },
			func(key string, err error) { t.Errorf("lost %s: %v", key, err) })
		n.add("a")
		synctest.Wait() // it is being looked at
		n.add("a")
		n.add("a")
		synctest.Wait()
		close(goOn)
		n.drain(time.Second)
		if tries != 2 {
			t.Errorf("%d tries", tries)
		}
	})
}

// Memory is bounded, and who finds no room is told.
func TestAnnouncedTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		var lost int
		n := newAnnouncements(
			func(context.Context, string) error { <-goOn; return nil },
			func(_ string, err error) {
				if lost++; !errors.Is(err, errTooManyAnnounced) {
					t.Error(err)
				}
			})
		for i := range settledAtOnce {
			n.add(fmt.Sprintf("first %d", i))
		}
		synctest.Wait()
		for i := range mostAnnounced + 3 {
			n.add(fmt.Sprint(i))
		}
		n.add("0") // waits already
		if lost != 3 {
			t.Errorf("%d were lost", lost)
		}
		close(goOn)
		n.drain(time.Minute)
	})
}
