// Command load sends mixed requests to "filestore serve --local", at a rate that does not depend on how fast they are
// answered, and prints how long they took, what failed, and what memory the server had. bench/README.md says more.
//
// A request is measured from the moment at which it was to be sent: when server or machine fall behind, the
// waiting is part of what is measured ("coordinated omission").
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	var l load
	flag.StringVar(&l.program, "filestore", "", "the `program` to measure (default: built from this tree)")
	flag.Float64Var(&l.rate, "rate", 500, "calls of the API a second")
	flag.DurationVar(&l.time, "for", time.Minute, "how long")
	flag.DurationVar(&l.warmUp, "warm-up", 5*time.Second, "how long before that the same is done and not measured")
	flag.IntVar(&l.size, "size", 1024, "bytes of each file")
	flag.StringVar(&l.dir, "dir", "", "`directory` for the store (default: a temporary one)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := l.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1) //nolint:gocritic // what stop would undo ends with the process
	}
}

type load struct {
	program      string
	rate         float64
	time, warmUp time.Duration
	size         int
	dir          string

	server *server
	http   *http.Client

	// Files on their way through their life. A call takes one where its predecessor has left it.
	created, uploaded, stored, located, downloaded chan file
	ids                                            [infoIDs]string // stored files that stay

	mu      sync.Mutex
	samples map[string][]time.Duration // by kind
	errors  map[string]int             // by kind and what went wrong, but 429; those of the warm-up too
	refused int                        // 429
	idle    int                        // requests that had no file, and information was asked for instead
}

// infoIDs is how many ids one call takes (docs/contract.md, "How many ids").
const infoIDs = 10

// file is one file, and the URL for the next request about it.
type file struct{ id, url string }

// kinds are what is sent in turn, and how many of them are calls of the API. Each file has one life: it is made,
// uploaded, stored, downloaded and deleted; beside that, somebody looks.
func (l *load) kinds() (kinds []kind, calls int) {
	info := kind{infoOfOne, l.info(1)}
	kinds = []kind{
		{"new file", l.create}, info, {"S3: upload", l.upload}, info, {"store", l.store},
		{"info of 10", l.info(infoIDs)}, {"info, with URL", l.locate}, {"S3: download", l.download}, info, {"delete", l.remove},
	}
	for _, k := range kinds {
		if !strings.HasPrefix(k.name, "S3: ") {
			calls++
		}
	}
	return kinds, calls
}

type kind struct {
	name string
	do   func(context.Context) (status int, err error) // errNoFile: nothing was sent
}

const infoOfOne = "info of 1"

// errNoFile says that no file has come so far yet: the requests before are late.
var errNoFile = errors.New("no file")

func (l *load) run(ctx context.Context) (err error) {
	if l.server, err = startServer(ctx, l.program, l.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.server.stop()) }()
	const connections = 1024
	l.http = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		MaxIdleConns: connections, MaxIdleConnsPerHost: connections, DisableCompression: true,
	}}
	room := int(l.rate*(l.time+l.warmUp).Seconds()) + 1
	for _, pool := range []*chan file{&l.created, &l.uploaded, &l.stored, &l.located, &l.downloaded} {
		*pool = make(chan file, room)
	}
	l.samples, l.errors = make(map[string][]time.Duration), make(map[string]int)
	if err := l.prepare(ctx); err != nil {
		return err
	}

	fmt.Printf("%d processors, load average before: %s\n", runtime.NumCPU(), loadAverage())
	l.send(ctx, l.warmUp)
	l.samples, l.refused, l.idle = make(map[string][]time.Duration), 0, 0
	watch := l.server.watch(l.time)
	begin, own := time.Now(), ownCPU()
	sent := l.send(ctx, l.time)
	took := time.Since(begin)
	memory := watch()
	if err := ctx.Err(); err != nil {
		return err
	}
	l.report(sent, took, ownCPU()-own, memory)
	failed := 0
	for _, n := range l.errors {
		failed += n
	}
	if failed > 0 {
		return fmt.Errorf("%d requests failed", failed)
	}
	return nil
}

// prepare makes the files that stay.
func (l *load) prepare(ctx context.Context) error {
	for i := range l.ids {
		for _, step := range []func(context.Context) (int, error){l.create, l.upload} {
			if err := prepared(step(ctx)); err != nil {
				return err
			}
		}
		f := <-l.uploaded
		l.ids[i] = f.id
	}
	status, _, err := l.call(ctx, http.MethodPut, "/files", l.ids[:])
	return prepared(status, err)
}

func prepared(status int, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("prepare: %w", err)
	case status != http.StatusOK:
		return fmt.Errorf("prepare: status %d", status)
	}
	return nil
}

// send sends requests for so long, each at its time, whatever became of those before, and returns how many when
// all are answered.
func (l *load) send(ctx context.Context, during time.Duration) (sent int) {
	kinds, calls := l.kinds()
	interval := time.Duration(float64(time.Second) / l.rate * float64(calls) / float64(len(kinds)))
	var running sync.WaitGroup
	defer running.Wait()
	for begin := time.Now(); ctx.Err() == nil; sent++ {
		offset := time.Duration(sent) * interval
		if offset >= during {
			break
		}
		due := begin.Add(offset)
		time.Sleep(time.Until(due))
		k := kinds[sent%len(kinds)]
		running.Go(func() {
			name := k.name
			status, err := k.do(ctx)
			if errors.Is(err, errNoFile) {
				name = infoOfOne
				status, err = l.info(1)(ctx)
			}
			l.count(name, time.Since(due), status, err)
		})
	}
	return sent
}

func (l *load) count(kind string, took time.Duration, status int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples[kind] = append(l.samples[kind], took)
	switch {
	case err != nil:
		l.errors[fmt.Sprintf("%s: %v", kind, err)]++
	case status == http.StatusTooManyRequests:
		l.refused++
	case status >= 300:
		l.errors[fmt.Sprintf("%s: status %d", kind, status)]++
	}
}

// take returns a file that has come so far, or errNoFile.
func (l *load) take(from chan file) (file, error) {
	select {
	case f := <-from:
		return f, nil
	default:
		l.mu.Lock()
		l.idle++
		l.mu.Unlock()
		return file{}, errNoFile
	}
}

// put hands a file on.
func put(to chan file, f file, status int, err error) (int, error) {
	if err == nil && status < 300 {
		to <- f
	}
	return status, err
}

func (l *load) create(ctx context.Context) (int, error) {
	status, answer, err := l.call(ctx, http.MethodPost, "/file", map[string]string{"name": "load.bin"})
	if err != nil || status != http.StatusOK {
		return status, err
	}
	var made struct{ ID, URL string }
	err = json.Unmarshal(answer, &made)
	return put(l.created, file{made.ID, made.URL}, status, err)
}

func (l *load) upload(ctx context.Context) (int, error) {
	f, err := l.take(l.created)
	if err != nil {
		return 0, err
	}
	status, _, err := l.request(ctx, http.MethodPut, f.url, bytes.NewReader(make([]byte, l.size)))
	return put(l.uploaded, f, status, err)
}

func (l *load) store(ctx context.Context) (int, error) {
	f, err := l.take(l.uploaded)
	if err != nil {
		return 0, err
	}
	status, _, err := l.call(ctx, http.MethodPut, "/files", []string{f.id})
	return put(l.stored, f, status, err)
}

// locate asks for a stored file, and has the URL to download it.
func (l *load) locate(ctx context.Context) (int, error) {
	f, err := l.take(l.stored)
	if err != nil {
		return 0, err
	}
	found, status, err := l.look(ctx, []string{f.id})
	if err == nil && status == http.StatusOK {
		f.url = found[0].URL
	}
	return put(l.located, f, status, err)
}

func (l *load) download(ctx context.Context) (int, error) {
	f, err := l.take(l.located)
	if err != nil {
		return 0, err
	}
	status, content, err := l.request(ctx, http.MethodGet, f.url, nil)
	if err == nil && status == http.StatusOK && len(content) != l.size {
		err = fmt.Errorf("%d bytes came, not %d", len(content), l.size)
	}
	return put(l.downloaded, f, status, err)
}

func (l *load) remove(ctx context.Context) (int, error) {
	f, err := l.take(l.downloaded)
	if err != nil {
		return 0, err
	}
	status, _, err := l.call(ctx, http.MethodDelete, "/files", []string{f.id})
	return status, err
}

// info asks for n of the files that stay.
func (l *load) info(n int) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		_, status, err := l.look(ctx, l.ids[:n])
		return status, err
	}
}

type shown struct {
	ID, URL string
	Size    int
}

// look asks for stored files. With the status OK and no error all of them are shown, in the order of the ids.
func (l *load) look(ctx context.Context, ids []string) (found []shown, status int, err error) {
	status, answer, err := l.call(ctx, http.MethodPost, "/files", ids)
	if err != nil || status != http.StatusOK {
		return nil, status, err
	}
	if err := json.Unmarshal(answer, &found); err != nil {
		return nil, status, err
	}
	if len(found) != len(ids) {
		return nil, status, fmt.Errorf("%d files were shown, not %d", len(found), len(ids))
	}
	for i, f := range found {
		if f.ID != ids[i] || f.URL == "" || f.Size != l.size {
			return nil, status, errors.New("a stored file is not shown as it is") // without the id, so that equal ones are counted together
		}
	}
	return found, status, nil
}

// call calls the API.
func (l *load) call(ctx context.Context, method, path string, body any) (status int, answer []byte, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	return l.request(ctx, method, l.server.api+path, bytes.NewReader(text))
}

func (l *load) request(ctx context.Context, method, url string, body io.Reader) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, nil, err
	}
	if strings.HasPrefix(url, l.server.api) {
		req.Header.Set("X-Api-Key", l.server.key)
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return 0, nil, errors.Unwrap(err) // without the URL, so that equal ones are counted together
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// report prints the result as Markdown.
func (l *load) report(sent int, took, own time.Duration, m memory) {
	fmt.Printf("%d requests in %.1f s, %.0f a second; %d were answered 429; for %d there was no file yet, and information was asked for instead\n\n",
		sent, took.Seconds(), float64(sent)/took.Seconds(), l.refused, l.idle)
	fmt.Println("| call | requests | median | 90 % | 99 % | slowest |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	var all, calls []time.Duration
	for _, name := range slices.Sorted(maps.Keys(l.samples)) {
		all = append(all, l.samples[name]...)
		if !strings.HasPrefix(name, "S3: ") {
			calls = append(calls, l.samples[name]...)
		}
		row(name, l.samples[name])
	}
	row("**all calls of the API**", calls)
	row("**all**", all)
	fmt.Println()
	fmt.Println("| memory (RSS, MiB) | begin | middle | end | most |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	for i, name := range []string{"serve", "its S3 server"} {
		fmt.Printf("| %s | %.0f | %.0f | %.0f | %.0f |\n", name, m.begin[i], m.middle[i], m.end[i], m.most[i])
	}
	fmt.Printf("\nprocessor time: serve %.1f s, its S3 server %.1f s, this program %.1f s; load average after: %s\n",
		m.cpu[0].Seconds(), m.cpu[1].Seconds(), own.Seconds(), loadAverage())
	for _, what := range slices.Sorted(maps.Keys(l.errors)) {
		fmt.Printf("FAILED %d times: %s\n", l.errors[what], what)
	}
}

func row(name string, samples []time.Duration) {
	if len(samples) == 0 {
		return
	}
	sorted := slices.SortedFunc(slices.Values(samples), cmp.Compare[time.Duration])
	at := func(q float64) string {
		return fmt.Sprintf("%.1f ms", float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Microseconds())/1000)
	}
	fmt.Printf("| %s | %d | %s | %s | %s | %s |\n", name, len(sorted), at(0.5), at(0.9), at(0.99), at(1))
}
