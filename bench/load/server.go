package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a running "filestore serve --local", with no limits to the rate.
type server struct {
	api, key string
	cmd      *exec.Cmd
	log      *os.File
	remove   string // is removed at the end
	pids     [2]int // of it, and of its S3 server
}

// startServer builds the program where none is given, and starts it on a new store below dir.
func startServer(ctx context.Context, program, dir string) (_ *server, err error) {
	s := &server{}
	if s.remove, err = os.MkdirTemp(dir, "filestore-load-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(s.remove))
		}
	}()
	if program == "" {
		program = filepath.Join(s.remove, "filestore")
		build := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/designfultech/filestore/cmd/filestore")
		if said, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build filestore: %w: %s", err, said)
		}
	}
	if s.log, err = os.Create(filepath.Join(s.remove, "log")); err != nil {
		return nil, err
	}
	store := filepath.Join(s.remove, "store")
	s.cmd = exec.Command(program, "serve", "--local="+store, "--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0", "--rate", "0", "--quota", "0")
	s.cmd.Stderr = s.log
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(stdout)
	_, err = lines.ReadString('\n') // the S3 endpoint
	if err == nil {
		s.api, err = lines.ReadString('\n')
	}
	s.api = strings.TrimSpace(s.api)
	var key []byte
	if err == nil {
		key, err = os.ReadFile(filepath.Join(store, "api-key"))
	}
	s.key = strings.TrimSpace(string(key))
	if err == nil {
		s.pids[0] = s.cmd.Process.Pid
		s.pids[1], err = childOf(s.pids[0])
	}
	if err != nil {
		said, _ := os.ReadFile(s.log.Name())
		return nil, errors.Join(fmt.Errorf("start filestore: %w: %s", err, said), s.cmd.Process.Kill(), s.cmd.Wait())
	}
	return s, nil
}

// stop ends the server, as a service manager does.
func (s *server) stop() error {
	err := s.cmd.Process.Signal(syscall.SIGTERM)
	if err == nil {
		err = s.cmd.Wait()
	}
	return errors.Join(err, s.log.Close(), os.RemoveAll(s.remove))
}

// memory is what the server and its S3 server had, in MiB, and the processor time that they took.
type memory struct {
	begin, middle, end, most [2]float64
	cpu                      [2]time.Duration
}

// watch looks at the memory twice a second. What it returns ends that.
func (s *server) watch(during time.Duration) func() memory {
	var m memory
	var before [2]time.Duration
	for i, pid := range s.pids {
		m.begin[i], before[i] = rss(pid), cpu(pid)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for begin := time.Now(); ; {
			for i, pid := range s.pids {
				now := rss(pid)
				m.most[i] = max(m.most[i], now)
				if time.Since(begin) <= during/2 {
					m.middle[i] = now
				}
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	return func() memory {
		close(done)
		<-ended
		for i, pid := range s.pids {
			m.end[i], m.cpu[i] = rss(pid), cpu(pid)-before[i]
			m.most[i] = max(m.most[i], m.end[i])
		}
		return m
	}
}

// rss is the memory of a process that is in RAM, in MiB (proc(5), "VmRSS").
func rss(pid int) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	if fields := strings.Fields(after); len(fields) > 0 {
		kib, _ := strconv.ParseFloat(fields[0], 64)
		return kib / 1024
	}
	return 0
}

// cpu is the processor time of a process (proc(5), "utime" and "stime"), to a hundredth of a second.
func cpu(pid int) time.Duration {
	fields := statOf(pid)
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, _ := strconv.ParseInt(field, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func ownCPU() time.Duration { return cpu(os.Getpid()) }

// statOf returns what proc(5) tells of a process behind its name, which may hold anything.
func statOf(pid int) []string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// childOf finds the child of a process.
func childOf(pid int) (int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		child, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if fields := statOf(child); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			return child, nil
		}
	}
	return 0, fmt.Errorf("process %d has no child: this needs Linux", pid)
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(text)); len(fields) > 2 {
		return strings.Join(fields[:3], " ")
	}
	return "unknown"
}
