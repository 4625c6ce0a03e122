//go:build linux || darwin || freebsd

package soak

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/faultproxy"
)

// front stands before a server and breaks things at random.
type front struct {
	url   string
	proxy *faultproxy.Proxy

	down atomic.Bool // an outage: nothing is answered but errors

	mu    sync.Mutex // guards what follows
	rng   *rand.Rand
	rules map[string][]*faultproxy.Rule
	all   int  // requests
	slow  int  // requests that had to wait
	calm  bool // no more faults
}

// chance is how likely a fault is for a request that it fits.
type chance struct {
	name  string
	of    float64
	match faultproxy.Match
	fault faultproxy.Fault
}

// newFront starts a front of a server. The same seed breaks the same requests, if they come in the same order.
func newFront(t *testing.T, target string, seed uint64) *front {
	t.Helper()
	f := &front{proxy: faultproxy.New(target), rng: rand.New(rand.NewPCG(seed, 1)), rules: make(map[string][]*faultproxy.Rule)}
	f.inject("outage", func(*http.Request) bool { return f.down.Load() }, faultproxy.InternalError())
	// The proxy is locked while it asks whether a rule fits, so they may share a source of chance.
	rng := rand.New(rand.NewPCG(seed, 2))
	for _, c := range chances(rng) {
		f.inject(c.name, func(r *http.Request) bool { return c.match(r) && rng.Float64() < c.of }, c.fault)
	}
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		f.proxy.Close()
		server.CloseClientConnections()
		server.Close()
	})
	f.url = server.URL
	return f
}

func (f *front) inject(name string, match faultproxy.Match, fault faultproxy.Fault) {
	f.rules[name] = append(f.rules[name], f.proxy.Inject(match, faultproxy.Always(), fault))
}

// chances are the faults that a service and the way to it have. What no service does is not among them: to
// confirm what it has not got.
func chances(rng *rand.Rand) []chance {
	object := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Count(r.URL.Path, "/") == 2 && !r.URL.Query().Has("uploadId")
	}
	put := faultproxy.On(http.MethodPut)
	complete := faultproxy.On(http.MethodPost, "uploadId")
	all := []chance{
		{"throttled", 0.01, faultproxy.Any, faultproxy.SlowDown()},
		{"internal error", 0.01, faultproxy.Any, faultproxy.InternalError()},
		{"unavailable", 0.005, faultproxy.Any, faultproxy.Refusal(http.StatusServiceUnavailable, "ServiceUnavailable")},
		{"connection reset before", 0.005, faultproxy.Any, faultproxy.Reset(faultproxy.Before)},
		{"answer lost", 0.01, faultproxy.Any, faultproxy.Reset(faultproxy.After)},
		{"no answer, not carried out", 0.001, faultproxy.Any, faultproxy.Hang(faultproxy.Before, nil)},
		{"no answer, carried out", 0.001, faultproxy.Any, faultproxy.Hang(faultproxy.After, nil)},
		{"error in a 200", 0.03, complete, faultproxy.ErrorIn200("InternalError")},
	}
	for _, at := range []int64{0, 1 + rng.Int64N(4<<10), rng.Int64N(5 << 20)} {
		all = append(all,
			chance{"upload cut", 0.01, put, faultproxy.ResetUpload(at)},
			chance{"upload changed", 0.005, put, faultproxy.FlipUpload(at)},
			chance{"download reset", 0.01, object, faultproxy.ResetDownload(at)},
			chance{"download cut", 0.01, object, faultproxy.CutDownload(at)},
			chance{"download changed", 0.005, object, faultproxy.FlipDownload(at)})
	}
	return all
}

// ServeHTTP lets some requests wait, and all of them meet the faults of the proxy.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if wait := f.latency(); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
	}
	f.proxy.ServeHTTP(w, r)
}

func (f *front) latency() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all++
	if f.calm || f.rng.Float64() > 0.03 {
		return 0
	}
	f.slow++
	return time.Duration(f.rng.Int64N(int64(time.Second)))
}

// heal ends all faults.
func (f *front) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calm = true
	f.proxy.Heal()
}

// requests is how many have come.
func (f *front) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all
}

// hits counts the faults that took place.
func (f *front) hits(into map[string]int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	into["slow"] += f.slow
	for name, rules := range f.rules {
		for _, rule := range rules {
			into[name] += rule.Hits()
		}
	}
}
