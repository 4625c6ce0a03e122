//go:build linux || darwin || freebsd

package soak

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tooLong is when a command counts as hanging: far longer than every try of every request can take.
const tooLong = 5 * time.Minute

// disturbance is what is done to a running program.
type disturbance string

const (
	undisturbed disturbance = ""
	killed      disturbance = "kill -9"
	interrupted disturbance = "SIGINT"
	terminated  disturbance = "SIGTERM"
	stopped     disturbance = "stopped for a while" // SIGSTOP and SIGCONT
	serverDies  disturbance = "its S3 server killed"
	timedOut    disturbance = "--timeout"
)

// outcome is what became of a command.
type outcome struct {
	args   []string
	status int // -1: killed
	// by is what was done to it before it ended.
	by      disturbance
	results []result
	raw     string
	stderr  string
	// began is before the process was there, and ended after it was gone.
	began, ended time.Time
}

// crashed says that the program has met a bug of its own; also one in a request to "serve", which goes on.
func (o outcome) crashed() bool {
	found, err := regexp.MatchString(`\bpanic\b|fatal error:`, o.stderr)
	return found || err != nil
}

// finished says that nobody broke it off.
func (o outcome) finished() bool { return o.status >= 0 && o.status != 130 }

// ids are the ids of the files that were reported as done.
func (o outcome) ids() (ids []string) {
	for _, r := range o.results {
		if r.Error == nil {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// runner runs the program on one filestore.
type runner struct {
	program string
	env     []string
	// held is inherited by every process: the other end of this pipe ends with the last of them.
	held *os.File
	// hasServer says that each process of the program has an S3 server of its own, which can die.
	hasServer bool

	mu     sync.Mutex
	counts figures
	usual  map[string]time.Duration // how long a command takes
	ends   []span                   // of servers for all
}

// span is a time in which something happened.
type span struct{ begin, end time.Time }

// figures are what the report is made of.
type figures struct {
	commands map[string]int      // by name
	statuses map[int]int         // by exit status; -1: killed
	by       map[disturbance]int // that hit a running command
	unknown  map[string]int      // commands that changed something, or did not, by name
	faults   map[string]int      // at the fronts
	named    map[string]int      // whatever else is counted
}

func newFigures() figures {
	return figures{
		commands: make(map[string]int), statuses: make(map[int]int), by: make(map[disturbance]int), unknown: make(map[string]int),
		faults: make(map[string]int), named: make(map[string]int),
	}
}

func (r *runner) count(name string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.named[name] += n
}

// unsure counts changes of which nobody knows whether they were made.
func (r *runner) unsure(command string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n > 0 && (command == "store" || command == "delete") {
		r.counts.unknown[command] += n
	}
}

// plan is when something is done to a command, and what.
type plan struct {
	by    disturbance
	after time.Duration
	pause time.Duration // of stopped
	// before is called before it is done; may be nil.
	before func()
}

// disturb makes a plan for a command, mostly none. The moment is anywhere in the time that it usually takes.
func (r *runner) disturb(rng *rand.Rand, name string) plan {
	r.mu.Lock()
	usual := r.usual[name]
	r.mu.Unlock()
	if usual == 0 {
		usual = 200 * time.Millisecond
	}
	p := plan{after: time.Duration(rng.Float64() * 1.1 * float64(usual)), pause: time.Duration(rng.Int64N(int64(2 * time.Second)))}
	switch n := rng.IntN(100); {
	case n < 12:
		p.by = killed
	case n < 17:
		p.by = interrupted
	case n < 21:
		p.by = terminated
	case n < 24:
		p.by = stopped
	case n < 27:
		p.by = timedOut
	case n < 31 && r.hasServer:
		p.by = serverDies
	}
	return p
}

// run runs the program to its end. What it prints must be JSON Lines.
func (r *runner) run(t testing.TB, home string, p plan, stdin []byte, args ...string) outcome {
	t.Helper()
	o := outcome{args: args, began: time.Now()}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(r.program, args...)
	cmd.Env = append(slices.Clone(r.env), "HOME="+home, "XDG_STATE_HOME="+filepath.Join(home, "state"), "TMPDIR="+home)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.ExtraFiles = []*os.File{r.held}
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return o
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // the state is looked at
	}()
	var due <-chan time.Time
	switch p.by {
	case undisturbed:
	case timedOut:
		o.by = timedOut
	default:
		due = time.After(p.after)
	}
	patience := time.After(tooLong)
wait:
	for {
		select {
		case <-done:
			break wait
		case <-due:
			if r.carryOut(cmd.Process, p) {
				o.by = p.by
			}
		case <-patience:
			_ = cmd.Process.Signal(syscall.SIGQUIT) // Go says where it hangs
			<-done
			t.Errorf("%q hangs: %s", args, stderr.String())
			break wait
		}
	}
	o.ended = time.Now()
	o.status = cmd.ProcessState.ExitCode()
	o.raw, o.stderr = stdout.String(), stderr.String()
	for line := range strings.Lines(o.raw) {
		if args[0] == "stats" || args[0] == "serve" {
			break // which is about no single file
		}
		var one result
		if !strings.HasSuffix(line, "\n") && o.status == -1 {
			continue // it broke off
		}
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Errorf("%q printed %q: %v", args, line, err)
			continue
		}
		o.results = append(o.results, one)
	}
	r.took(o, args[0], o.ended.Sub(o.began))
	return o
}

// took counts a command that has ended.
func (r *runner) took(o outcome, name string, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.commands[name]++
	r.counts.statuses[o.status]++
	if o.by != undisturbed {
		r.counts.by[o.by]++
	}
	if o.status == 0 && o.by == undisturbed {
		usual, ok := r.usual[name]
		if !ok {
			usual = d
		}
		r.usual[name] = (4*usual + d) / 5
	}
}

// serverEnded reports whether a server for all has ended, or may have, while the command ran: it may have used that.
func (r *runner) serverEnded(o outcome) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.ends, func(s span) bool { return s.begin.Before(o.ended) && s.end.After(o.began) })
}

// carryOut does what is planned, and reports whether the process was still there.
func (r *runner) carryOut(process *os.Process, p plan) bool {
	signal := map[disturbance]syscall.Signal{
		killed: syscall.SIGKILL, interrupted: syscall.SIGINT, terminated: syscall.SIGTERM, stopped: syscall.SIGSTOP,
	}
	if p.before != nil {
		p.before()
	}
	if p.by == serverDies {
		for _, child := range children(process.Pid) {
			if syscall.Kill(child, syscall.SIGKILL) == nil {
				return true
			}
		}
		return false
	}
	if process.Signal(signal[p.by]) != nil {
		return false
	}
	if p.by == stopped {
		time.AfterFunc(p.pause, func() { _ = process.Signal(syscall.SIGCONT) }) // fails when it has ended
	}
	return true
}

// children are the processes that a process has started. Where there is no /proc, none are found.
func children(pid int) (found []int) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// proc_pid_stat(5): pid (comm) state ppid, and comm may hold anything.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			found = append(found, child)
		}
	}
	return found
}

// String is for messages.
func (o outcome) String() string {
	by := ""
	if o.by != undisturbed {
		by = " (" + string(o.by) + ")"
	}
	return fmt.Sprintf("%q: status %d%s\n%s%s", o.args, o.status, by, o.raw, o.stderr)
}
