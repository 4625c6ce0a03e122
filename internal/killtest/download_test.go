//go:build unix

package killtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/state"
	"github.com/designfultech/filestore/internal/testserver"
)

// TestResumeDownload ends downloads in the middle and has another process go on with them.
func TestResumeDownload(t *testing.T) {
	s := servers{program: testserver.Program(t), s3: testserver.Versitygw(t), dynamoDB: testserver.Dynalite(t)}
	t.Run("ended in every way", func(t *testing.T) { resumeAfterEachEnd(t, newResumed(t, s)) })
	t.Run("object replaced", func(t *testing.T) { resumeWithReplacedObject(t, newResumed(t, s)) })
	t.Run("file damaged", func(t *testing.T) { resumeWithDamagedFile(t, newResumed(t, s)) })
}

// One download ends in every way there is, one after the other. What was recorded is not asked for
// again.
func resumeAfterEachEnd(t *testing.T, d *resumed) {
	const size = 60 * mib
	content := pseudorandom(size, 1)
	id := d.upload(t, content)

	t.Log("killed")
	d.gate.open(2)
	p := d.start(t, id)
	d.wait(t, p, 2*2) // a range of 5 MiB is recorded in two pieces
	t.Log("a second one at the same time")
	second := d.start(t, id)
	if status := second.wait(t); status != 6 || !strings.Contains(second.stderr.String(), "another process is downloading it") {
		t.Errorf("exit status %d: %s", status, second.stderr)
	}
	p.kill(t)
	d.wantPartial(t, id)
	there := d.recorded(t)

	t.Log("the network is lost")
	d.gate.open(3)
	p = d.start(t, id)
	d.wait(t, p, len(there)+3*2)
	d.gate.breakOff()
	if status := p.wait(t); status != 7 {
		t.Errorf("exit status %d: %s", status, p.stderr)
	}
	for _, want := range []string{"what has arrived is kept", `hint: "filestore download --resume ID", into the same directory, goes on`, " of 60.0 MiB are there"} {
		if !strings.Contains(p.stderr.String(), want) {
			t.Errorf("it does not say %q: %s", want, p.stderr)
		}
	}
	d.wantAskedBut(t, there)
	d.wantPartial(t, id)
	there = d.recorded(t)

	t.Log("interrupted")
	d.gate.open(2)
	p = d.start(t, id)
	d.wait(t, p, len(there)+2*2)
	if status := p.interrupt(t); status != 130 {
		t.Errorf("exit status %d: %s", status, p.stderr)
	}
	if !strings.Contains(p.stderr.String(), "goes on where it stopped") {
		t.Errorf("it does not say so: %s", p.stderr)
	}
	d.wantAskedBut(t, there)
	d.wantPartial(t, id)
	there = d.recorded(t)

	t.Log("and to its end")
	d.gate.open(1000)
	if p = d.start(t, id); p.wait(t) != 0 {
		t.Error(p.stderr)
	}
	if asked, want := d.wantAskedBut(t, there), size-sizeOf(there); asked != want {
		t.Errorf("%d bytes were asked for, want %d", asked, want)
	}
	d.wantFinished(t, content)
}

// There is another object than the one whose download was killed.
func resumeWithReplacedObject(t *testing.T, d *resumed) {
	content, other := pseudorandom(30*mib, 1), pseudorandom(30*mib, 2)
	id := d.upload(t, content)
	d.gate.open(3)
	p := d.start(t, id)
	d.wait(t, p, 3*2)
	p.kill(t)
	d.put(t, id, other)

	d.gate.open(1000)
	if p = d.start(t, id); p.wait(t) != 0 || !strings.Contains(p.stderr.String(), "the object is not the one that was begun; starting anew") {
		t.Error(p.stderr)
	}
	if asked := sizeOf(d.gate.ranges()); asked != 30*mib {
		t.Errorf("%d bytes were asked for", asked)
	}
	d.wantFinished(t, other)
}

// A bit of the partial file changes after the kill.
func resumeWithDamagedFile(t *testing.T, d *resumed) {
	content := pseudorandom(30*mib, 1)
	id := d.upload(t, content)
	d.gate.open(3)
	p := d.start(t, id)
	d.wait(t, p, 3*2)
	p.kill(t)
	there := d.recorded(t)
	f, err := os.OpenFile(filepath.Join(d.dir, partName(id)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := there[0].From + 1000
	if _, err := f.WriteAt([]byte{content[at] ^ 1}, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	d.gate.open(1000)
	if p = d.start(t, id); p.wait(t) != 0 {
		t.Error(p.stderr)
	}
	if asked, want := d.wantAskedBut(t, there[1:]), 30*mib-sizeOf(there[1:]); asked != want {
		t.Errorf("%d bytes were asked for, want %d", asked, want)
	}
	d.wantFinished(t, content)
}

// TestResumeDownloadAtAnyTime kills downloads of a local store again and again, each going on with
// what the one before has left, until one comes to its end.
func TestResumeDownloadAtAnyTime(t *testing.T) {
	program, home, dir := testserver.Program(t), t.TempDir(), t.TempDir()
	content := pseudorandom(100*mib, 1)
	source := filepath.Join(t.TempDir(), "large.bin")
	if err := os.WriteFile(source, content, 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, append([]string{"--local=" + filepath.Join(home, "store")}, args...)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_STATE_HOME=" + filepath.Join(home, "state")}
		return cmd
	}
	out, err := command("-q", "upload", "--store", source).Output()
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(string(out))
	kills := 0
	for done := false; !done; {
		p := startProcess(t, command("download", "--resume", "--concurrency=2", "-d", dir, id))
		// Once it has got a few pieces further.
		want := len(readJournal(t, filepath.Join(home, "state"))) + 6
		until(t, func() bool { return p.ended() || len(readJournal(t, filepath.Join(home, "state"))) >= want })
		if !p.ended() {
			kills++
		}
		_ = p.cmd.Process.Kill() // fails when it has just ended
		<-p.done
		done = p.cmd.ProcessState.Success()
		if !done && p.cmd.ProcessState.Exited() {
			// The one before may have been killed after it had given the file its name.
			if _, err := os.Stat(filepath.Join(dir, "large.bin")); err != nil || p.cmd.ProcessState.ExitCode() != 6 {
				t.Fatal(p.stderr)
			}
			done = true
		}
	}
	t.Logf("killed %d times", kills)
	if kills == 0 {
		t.Error("that is no test")
	}
	if got, err := os.ReadFile(filepath.Join(dir, "large.bin")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file is not what was uploaded, %v", err)
	}
	wantNothingElse(t, dir, "large.bin")
	if left := readJournal(t, filepath.Join(home, "state")); left != nil {
		t.Errorf("a journal is left: %+v", left)
	}
}

// resumed is a filestore behind a gate, and where files of it are downloaded to.
type resumed struct {
	servers
	f    *filestore
	gate *gate
	home string
	dir  string
}

func newResumed(t *testing.T, s servers) *resumed {
	t.Helper()
	return &resumed{servers: s, f: s.open(t), gate: newGate(t, s.s3.Endpoint), home: t.TempDir(), dir: t.TempDir()}
}

func (d *resumed) upload(t *testing.T, content []byte) (id string) {
	t.Helper()
	r, err := d.f.Upload(t.Context(), client.UploadRequest{Name: "large.bin", Store: true, File: fileOf(t, content)})
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// put replaces the object of a file, as no client of a filestore does.
func (d *resumed) put(t *testing.T, id string, content []byte) {
	t.Helper()
	if _, err := d.f.Transfer.UploadFile(t.Context(), id, "text/plain", fileOf(t, content), nil); err != nil {
		t.Fatal(err)
	}
}

func fileOf(t *testing.T, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// start starts a download that can be gone on with, in ranges of 5 MiB.
func (d *resumed) start(t *testing.T, id string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), d.program, "download", "--resume", "--part-size=5M", "--concurrency=3", "-d", d.dir, id)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + d.home, "XDG_STATE_HOME=" + filepath.Join(d.home, "state"), "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + d.s3.AccessKey, "AWS_SECRET_ACCESS_KEY=" + d.s3.SecretKey, "AWS_REGION=" + d.s3.Region,
		"AWS_ENDPOINT_URL_S3=" + d.gate.url, "AWS_ENDPOINT_URL_DYNAMODB=" + d.dynamoDB,
		"FILESTORE_BUCKET=" + d.f.Bucket, "FILESTORE_TABLE=" + d.f.tableName,
	}
	return startProcess(t, cmd)
}

func startProcess(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, stderr: new(bytes.Buffer), done: make(chan struct{})}
	cmd.Stderr = p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the exit status is looked at
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails when it has ended, which is as good
		<-p.done
	})
	return p
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait returns the exit status.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// wait waits until so many pieces are recorded.
func (d *resumed) wait(t *testing.T, p *process, pieces int) {
	t.Helper()
	until(t, func() bool { return p.ended() || len(d.recorded(t)) >= pieces })
	if p.ended() {
		t.Fatalf("it has ended: %s", p.stderr)
	}
}

func (d *resumed) recorded(t *testing.T) []state.DownloadedRange {
	t.Helper()
	return readJournal(t, filepath.Join(d.home, "state"))
}

// wantPartial fails the test unless there is a partial file alone, which only its owner can read.
func (d *resumed) wantPartial(t *testing.T, id string) {
	t.Helper()
	wantNothingElse(t, d.dir, partName(id))
	if info, err := os.Lstat(filepath.Join(d.dir, partName(id))); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func partName(id string) string { return ".filestore-" + id + ".part" }

// wantFinished fails the test unless there is the file alone, and nothing is remembered.
func (d *resumed) wantFinished(t *testing.T, content []byte) {
	t.Helper()
	if got, err := os.ReadFile(filepath.Join(d.dir, "large.bin")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file is not what was uploaded, %v", err)
	}
	wantNothingElse(t, d.dir, "large.bin")
	if left := d.recorded(t); left != nil {
		t.Errorf("a journal is left: %+v", left)
	}
}

// wantAskedBut fails the test where something was asked for that was there. It returns how many
// bytes were asked for.
func (d *resumed) wantAskedBut(t *testing.T, there []state.DownloadedRange) int64 {
	t.Helper()
	asked := d.gate.ranges()
	for _, a := range asked {
		if i := slices.IndexFunc(there, func(x state.DownloadedRange) bool { return a.From < x.To && x.From < a.To }); i >= 0 {
			t.Errorf("%+v was there, and %+v asked for", there[i], a)
		}
	}
	return sizeOf(asked)
}

func sizeOf(ranges []state.DownloadedRange) (n int64) {
	for _, x := range ranges {
		n += x.To - x.From
	}
	return n
}

// gate stands before S3 and lets through so many ranges of objects.
type gate struct {
	url    string
	closed chan struct{} // when the test is over

	mu     sync.Mutex
	left   int
	broken bool
	asked  []state.DownloadedRange
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host // the Host header stays: it is signed
		r.Out.Host = r.In.Host
	}}
	g := &gate{closed: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || g.pass(r) {
			forward.ServeHTTP(w, r)
			return
		}
		panic(http.ErrAbortHandler) // no answer
	}))
	t.Cleanup(func() { close(g.closed); server.Close() })
	g.url = server.URL
	return g
}

// pass waits until r may go on, or reports false where it may not.
func (g *gate) pass(r *http.Request) bool {
	var x state.DownloadedRange
	if n, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &x.From, &x.To); n != 2 || err != nil {
		return false
	}
	x.To++
	g.mu.Lock()
	if g.broken {
		g.mu.Unlock()
		return false
	}
	g.left--
	passes := g.left >= 0
	g.asked = append(g.asked, x)
	g.mu.Unlock()
	if passes {
		return true
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-r.Context().Done():
			return false
		case <-g.closed:
			return false
		case <-tick.C:
			g.mu.Lock()
			broken := g.broken
			g.mu.Unlock()
			if broken {
				return false
			}
		}
	}
}

// open lets n ranges through, and forgets what was asked for before.
func (g *gate) open(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left, g.broken, g.asked = n, false, nil
}

// breakOff closes every connection.
func (g *gate) breakOff() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.broken = true
}

func (g *gate) ranges() []state.DownloadedRange {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

// readJournal reads what one download has recorded; nil is none.
func readJournal(t *testing.T, stateHome string) []state.DownloadedRange {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(stateHome, "filestore", "downloads", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		return nil
	}
	if len(names) > 1 {
		t.Fatalf("%q", names)
	}
	data, err := os.ReadFile(names[0])
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	recorded := []state.DownloadedRange{}
	first := true // the line that says what is downloaded
	for line := range bytes.Lines(data) {
		var r state.DownloadedRange
		if !first && json.Unmarshal(line, &r) == nil {
			recorded = append(recorded, r)
		}
		first = false
	}
	return recorded
}

func wantNothingElse(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("in the directory is %v, want %q", entries, name)
	}
}

func pseudorandom(size int, seed byte) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// until waits until something is so, and fails the test when that takes too long.
func until(t *testing.T, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatal("that takes too long")
		}
		time.Sleep(time.Millisecond)
	}
}
