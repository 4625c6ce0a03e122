package docstest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// deadline bounds each command. It is long: machines may be busy.
	deadline = 60 * time.Second
	poll     = 10 * time.Millisecond
)

// session is a shell on a terminal, as the reader of a page has one.
type session struct {
	dir   string // for the files of this type
	stdin *os.File
	ended chan struct{} // closed when the shell has ended
	steps int

	mu     sync.Mutex
	output []byte // since the last step
}

// newSession starts a shell with that environment, in that directory.
func newSession(t *testing.T, dir string, environ []string) *session {
	t.Helper()
	master, slave, err := terminal()
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := &session{dir: t.TempDir(), stdin: w, ended: make(chan struct{})}
	cmd := exec.Command("bash", "--norc")
	cmd.Dir, cmd.Env = dir, environ
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // what it has printed tells
		close(s.ended)
	}()
	read := make(chan struct{})
	go func() {
		defer close(read)
		buffer := make([]byte, 1<<16)
		for {
			n, err := master.Read(buffer)
			s.mu.Lock()
			s.output = append(s.output, buffer[:n]...)
			s.mu.Unlock()
			if err != nil { // EIO: no process has the terminal open any more
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = w.Close()
		// The shell and what it has left in the background. Nothing else is in that group.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-read:
		case <-time.After(deadline):
			t.Error("something in the background does not end")
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-read
		}
		_ = master.Close()
	})
	return s
}

// terminal opens a new terminal: the side of the reader, and that of the programs. It is wide, so
// that no table is cut.
func terminal() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 1000})
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	return master, slave, nil
}

// mark ends a step in the output.
var mark = regexp.MustCompile("\x1e([0-9]+)\x1e\r?\n")

var errEnded = errors.New("a command has failed")

// run runs commands in the shell, which keeps its variables and its directory, and returns what the
// terminal then shows. If strict, the first command that fails ends the shell, and errEnded is
// returned; else status is that of the last command.
func (s *session) run(text string, strict bool) (screen []string, status int, err error) {
	s.steps++
	file := filepath.Join(s.dir, "step"+strconv.Itoa(s.steps))
	before := "trap - ERR; set +e +o pipefail"
	if strict {
		before = `trap 'echo "failed with $?: $BASH_COMMAND"' ERR; set -e -o pipefail`
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, 0, err
	}
	s.take()
	// Standard input is nobody's: what waits for it ends.
	_, err = fmt.Fprintf(s.stdin, "%s; . '%s' </dev/null; printf '\\036%%s\\036\\n' \"$?\"\n", before, file)
	if err != nil && !errors.Is(err, fs.ErrClosed) && !errors.Is(err, syscall.EPIPE) {
		return nil, 0, err
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	timeout := time.After(deadline)
	for {
		s.mu.Lock()
		found := mark.FindSubmatchIndex(s.output)
		s.mu.Unlock()
		if found != nil {
			output := s.take()
			status, err = strconv.Atoi(output[found[2]:found[3]])
			return render(output[:found[0]]), status, err
		}
		select {
		case <-tick.C:
		case <-timeout:
			return render(s.take()), 0, fmt.Errorf("it has not ended after %s", deadline)
		case <-s.ended:
			// What it has printed may still be on its way.
			<-tick.C
			return render(s.take()), 0, errEnded
		}
	}
}

func (s *session) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	output := string(s.output)
	s.output = nil
	return output
}

var escape = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// render returns the lines that stay on a terminal. Of the sequences that move the cursor it knows
// what progress bars use: back to the begin of the line, and erase it.
func render(output string) []string {
	var screen []string
	for line := range strings.Lines(strings.ReplaceAll(output, "\r\n", "\n")) {
		var shown []rune
		column := 0
		for line = strings.TrimSuffix(line, "\n"); line != ""; {
			if at := escape.FindStringIndex(line); at != nil && at[0] == 0 {
				switch {
				case line[at[1]-1] != 'K':
				case line[:at[1]] == "\x1b[2K":
					shown = nil
				default:
					shown = shown[:min(column, len(shown))]
				}
				line = line[at[1]:]
				continue
			}
			r := []rune(line)[0]
			line = line[len(string(r)):]
			if r == '\r' {
				column = 0
				continue
			}
			for len(shown) <= column {
				shown = append(shown, ' ')
			}
			shown[column] = r
			column++
		}
		screen = append(screen, strings.TrimRight(string(shown), " "))
	}
	return screen
}

func TestRender(t *testing.T) {
	for output, want := range map[string]string{
		"a\r\nb\r\n":                     "a|b",
		"10%\r20%\r\x1b[Kdone\r\n":       "done",
		"long line\rshort\x1b[K\r\n":     "short",
		"abc\x1b[2K\rx\r\n":              "x",
		"\x1b[?25lbar\r   \rafter\r\n":   "after",
		"without an end":                 "without an end",
		"ä \x1b[1mbold\x1b[0m…\r\n\r\nb": "ä bold…||b",
	} {
		if got := strings.Join(render(output), "|"); got != want {
			t.Errorf("%q: %q, not %q", output, got, want)
		}
	}
}
