//go:build linux || darwin || freebsd

package soak

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/testserver"
)

const (
	// durationVariable says how long each store is worked on, such as 30m.
	durationVariable = "FILESTORE_SOAK"
	// seedVariable repeats a run, as far as processes at the same time can be repeated.
	seedVariable = "FILESTORE_SOAK_SEED"

	// workers is how many processes work on a store at the same time.
	workers = 4
)

// lifetimes are short, so that sweeps have something to do.
type lifetimes struct{ url, temporary, grace time.Duration }

// TestSoak works on a local store, and on MinIO and dynalite, at the same time.
func TestSoak(t *testing.T) {
	duration, seed := 10*time.Second, rand.Uint64()
	lives := lifetimes{url: time.Second, temporary: 4 * time.Second, grace: 10 * time.Second}
	if text := os.Getenv(durationVariable); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		lives = lifetimes{url: 5 * time.Second, temporary: 15 * time.Second, grace: 30 * time.Second}
	}
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	program := testserver.Program(t)
	for name, open := range map[string]func(*testing.T, string, uint64) place{"local": localPlace, "minio": minioPlace} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			soak(t, name, program, open(t, program, seed), lives, duration, seed)
		})
	}
}

func soak(t *testing.T, name, program string, p place, lives lifetimes, duration time.Duration, seed uint64) {
	alive, held, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	settings := []string{"FILESTORE_TEMPORARY_LIFETIME=" + lives.temporary.String(), "FILESTORE_URL_EXPIRATION=" + lives.url.String()}
	run := &runner{
		program: program, env: append(p.env, settings...), held: held, hasServer: p.directory != "",
		counts: newFigures(), usual: make(map[string]time.Duration),
	}
	p.other = append(p.other, settings...)
	m := newModel(name, lives)
	audit := filepath.Join(t.TempDir(), "audit.jsonl")
	began := time.Now()
	defer func() {
		for _, f := range p.fronts {
			f.hits(run.counts.faults)
		}
		t.Logf("%s on %s/%s, seed %d\n%s", time.Since(began).Round(time.Second), runtime.GOOS, runtime.GOARCH, seed, run.counts.report(m))
		for _, text := range m.broken() {
			t.Errorf("%s, seed %d: %s", name, seed, text)
		}
	}()

	var keys atomic.Int64
	var working, around sync.WaitGroup
	done := make(chan struct{})
	around.Go(func() { disasters(t, run, m, p, rand.New(rand.NewPCG(seed, 100)), t.TempDir(), audit, done) })
	for i := range workers {
		w := &worker{
			t: t, name: strconv.Itoa(i), rng: rand.New(rand.NewPCG(seed, uint64(i))), model: m, run: run, place: p,
			home: t.TempDir(), audit: audit, grace: lives.grace, keys: &keys, random: rand.NewChaCha8([32]byte{byte(seed), byte(i)}),
		}
		working.Go(func() { w.work(began.Add(duration)) })
	}
	working.Wait()
	close(done)
	around.Wait()
	for _, f := range p.fronts {
		f.heal()
		run.count("requests that could meet a fault", f.requests())
	}
	run.count("sweeps that ended well", m.sweptWell)
	run.busy(t, m, duration)
	// Ours is the last end but those of S3 servers whose programs were killed: they end what they do.
	_ = held.Close()
	if _, err := io.Copy(io.Discard, alive); err != nil {
		t.Fatal(err)
	}
	if run.held, err = os.Open(os.DevNull); err != nil {
		t.Fatal(err)
	}
	defer run.held.Close()
	// Everything temporary, and every placeholder, is due when this is over; times are whole seconds.
	<-time.After(lives.url + lives.temporary + 2*time.Second)
	e := &end{t: t, model: m, run: run, place: p, home: t.TempDir(), audit: audit}
	e.sweep()
	e.verify()
	all := e.records(p.open(t, time.Now))
	e.contents(all)
	e.copied(all)
	e.audited()
	e.leftUploads(p.open, "store")
	e.leftUploads(p.openOther, "copy")
	e.sound()
	run.count("changed on the way to a URL that takes anything", len(m.flipped))
	if len(m.broken()) == 0 {
		e.sees(p.open(t, time.Now))
	}
}

// busy fails if what was to be tried did not happen.
func (r *runner) busy(t testing.TB, m *model, duration time.Duration) {
	done := map[string]int{"files uploaded": len(m.files)}
	if duration >= 2*time.Minute { // in seconds, on a busy machine, there may be nothing more
		done["commands killed"], done["sweeps ended well"] = r.counts.by[killed], m.sweptWell
		done["files downloaded"] = r.counts.named["files downloaded and compared"]
	}
	for what, n := range done {
		if n == 0 {
			t.Errorf("%s: none; that is no test", what)
		}
	}
}

// disasters has what all processes share fail now and then: a service is out of order for a while, or, of a
// local store, a server that all use begins and is killed.
func disasters(t testing.TB, run *runner, m *model, p place, rng *rand.Rand, home, audit string, done <-chan struct{}) {
	wait := func(least, most time.Duration) bool {
		timer := time.NewTimer(least + time.Duration(rng.Int64N(int64(most-least))))
		defer timer.Stop()
		select {
		case <-timer.C:
			return true
		case <-done:
			return false
		}
	}
	for wait(3*time.Second, 20*time.Second) {
		if p.directory != "" {
			serve(t, run, m, rng, home, audit)
			continue
		}
		front := p.fronts[rng.IntN(len(p.fronts))]
		front.down.Store(true)
		wait(500*time.Millisecond, 5*time.Second)
		front.down.Store(false)
		run.count("outages", 1)
	}
}

// serve runs "filestore serve", which sweeps too, for a while, and ends it by kill -9 or SIGTERM.
func serve(t testing.TB, run *runner, m *model, rng *rand.Rand, home, audit string) {
	p := plan{by: killed, after: time.Second + time.Duration(rng.Int64N(int64(8*time.Second)))}
	if rng.IntN(3) == 0 {
		p.by = terminated
	}
	at := -1 // in run.ends
	p.before = func() {
		run.mu.Lock()
		defer run.mu.Unlock()
		at = len(run.ends)
		run.ends = append(run.ends, span{begin: time.Now(), end: time.Now().Add(tooLong)})
	}
	o := run.run(t, home, p, nil, "serve", "--json", "--s3-listen=127.0.0.1:0", "--listen=127.0.0.1:0", "--sweep-every=3s", "--audit", audit)
	run.count("servers for all", 1)
	if at >= 0 {
		run.mu.Lock()
		run.ends[at].end = o.ended
		run.mu.Unlock()
	}
	m.ended(o)
	switch {
	case o.by == killed && o.status == -1:
	case o.by == terminated && slices.Contains([]int{0, 130, -1}, o.status): // 130: before it serves; -1: before it listens to signals
	default:
		m.wrong("it does not end as it was told: %s", o)
	}
}

// report is the figures as a text.
func (f figures) report(m *model) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := fmt.Sprintf("files reported as uploaded: %d; violations, losses among them: %d\n", len(m.files), len(m.violations))
	text += line("commands", f.commands) + line("exit statuses", f.statuses) + line("disturbed", f.by) + line("outcome unknown", f.unknown) +
		line("faults", f.faults) + line("other", f.named)
	return text
}

func line[K int | string | disturbance](name string, counts map[K]int) string {
	all, text := 0, ""
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		all += counts[key]
		text += fmt.Sprintf(", %v %d", key, counts[key])
	}
	return fmt.Sprintf("%s: %d in all%s\n", name, all, text)
}
