//go:build linux || darwin || freebsd

package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startTimeout is long for a child that is ready in milliseconds, since the machine may be
	// busy or the disk asleep.
	startTimeout = 10 * time.Second

	// stopTimeout is how long a child may take to end after its grace, until it is killed.
	stopTimeout = 5 * time.Second
)

// serverConfig is what the parent tells the child: one line of JSON on its standard input. The
// secret is in no argument and no environment variable, which other users could read.
type serverConfig struct {
	Objects     string        `json:"objects"`           // absolute
	Sidecar     string        `json:"sidecar,omitempty"` // absolute; empty: extended attributes
	Lock        string        `json:"lock"`              // held while the bucket is being made
	Credentials Credentials   `json:"credentials"`
	Listen      string        `json:"listen"`
	Grace       time.Duration `json:"grace"`   // how long running requests may take after the pipe closed
	Created     bool          `json:"created"` // tell of each object that was written
}

// serverReady is what the child answers, one line of JSON on its standard output.
type serverReady struct {
	URL    string       `json:"url,omitempty"`
	Error  string       `json:"error,omitempty"`
	Listen *ListenError `json:"listen,omitempty"`
}

// serverEvent is what the child tells after that, one line of JSON each, where it was asked to.
type serverEvent struct {
	Created string `json:"created"` // the key of an object that is there, whole
}

// child is a running S3 server.
type child struct {
	url    string
	grace  time.Duration
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *tail
	done   chan struct{} // closed when the process is gone
	err    error         // how it ended; to be read after done
}

// startChild starts a server and waits until it listens. created is told of each object that is written
// by it, one at a time, of all of them before done is closed; it may be nil.
func (s *Store) startChild(ctx context.Context, listen string, grace time.Duration, created func(key string)) (*child, error) {
	program := s.Executable
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("start the local S3 server: %w", err)
		}
	}
	config := serverConfig{
		Objects:     s.path(objectsDir),
		Lock:        s.path(lockFile),
		Credentials: s.credentials,
		Listen:      listen,
		Grace:       grace,
		Created:     created != nil,
	}
	if s.metadata == inSidecar {
		config.Sidecar = s.path(sidecarDir)
	}

	// Not CommandContext: the server must outlive the context, since what is left to do after
	// an interrupt needs it.
	stdout := &childOutput{first: make(chan []byte, 1), created: created}
	c := &child{grace: grace, cmd: exec.Command(program, ServerCommand), stderr: &tail{}, done: make(chan struct{})}
	c.cmd.Stdout = stdout
	c.cmd.Stderr = c.stderr
	// A process group of its own keeps the terminal's Ctrl-C away from it. PR_SET_PDEATHSIG is not
	// used: it fires when the thread ends that started the child, not the process (golang/go#27505).
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the local S3 server: %w", err)
	}
	c.stdin = stdin
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the local S3 server: %w", err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()

	// The line fits into the pipe, so this does not wait for the child. When it fails, the child
	// is gone and says why below.
	_ = json.NewEncoder(stdin).Encode(config)

	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("it did not get ready in time"))
	defer cancel()
	var line []byte
	select {
	case line = <-stdout.first:
	case <-ctx.Done():
		_ = c.stop()
		return nil, c.startError(context.Cause(ctx))
	case <-c.done:
		select {
		case line = <-stdout.first:
		default:
			return nil, c.startError(c.died())
		}
	}
	var ready serverReady
	switch err := json.Unmarshal(line, &ready); {
	case err != nil:
		_ = c.stop()
		return nil, c.startError(fmt.Errorf("it said %q", line))
	case ready.Listen != nil:
		_ = c.stop()
		return nil, ready.Listen
	case ready.Error != "":
		_ = c.stop()
		return nil, fmt.Errorf("start the local S3 server: %s", ready.Error)
	}
	c.url = ready.URL
	return c, nil
}

// startError says that the start failed.
func (c *child) startError(err error) error {
	return fmt.Errorf("start the local S3 server: %w", c.withLastWords(err))
}

// withLastWords adds what the child wrote on its standard error.
func (c *child) withLastWords(err error) error {
	if text := c.stderr.String(); text != "" {
		return fmt.Errorf("%w; its last words: %s", err, text)
	}
	return err
}

// died says how the child ended. To be called after done is closed.
func (c *child) died() error {
	if c.err == nil {
		return errors.New("it ended by itself")
	}
	return c.err // such as "signal: killed"
}

// stop closes the pipe that keeps the child alive, and waits until the child is gone.
func (c *child) stop() error {
	_ = c.stdin.Close() // fails only when the child is gone already
	timer := time.NewTimer(c.grace + stopTimeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		err := c.cmd.Process.Kill()
		<-c.done
		if err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop the local S3 server: %w", err)
		}
		return nil
	}
}

// childOutput takes what the child writes: the first line goes to the channel, which must have room
// for one, and the events after it to created. What reads the child's output must never stop,
// or the child would.
type childOutput struct {
	first    chan []byte
	created  func(key string) // nil: what follows the first line is discarded
	text     []byte           // of a line that has not ended
	answered bool
}

func (w *childOutput) Write(p []byte) (int, error) {
	if w.answered && w.created == nil {
		return len(p), nil
	}
	w.text = append(w.text, p...)
	for {
		line, rest, ok := bytes.Cut(w.text, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		w.line(line)
		w.text = append(w.text[:0], rest...)
	}
}

func (w *childOutput) line(line []byte) {
	if !w.answered {
		w.answered = true
		w.first <- bytes.Clone(line)
		return
	}
	var event serverEvent
	if err := json.Unmarshal(line, &event); err == nil && event.Created != "" && w.created != nil {
		w.created(event.Created)
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// tailSize is enough for an error with its stack trace, in bytes.
const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailSize; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
