package testserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3 is a running S3 server without buckets, and the account that may do everything on it.
type S3 struct {
	Endpoint  string // base URL, without a slash at the end
	AccessKey string
	SecretKey string
	Region    string

	process *s3Process
}

// s3Process is the process of a server, and how it is started again.
type s3Process struct {
	mu     sync.Mutex
	launch func() (*exec.Cmd, <-chan struct{}, error)
	cmd    *exec.Cmd
	ended  <-chan struct{}
	log    string // path
}

// Kill ends the server at once, as kill -9 does: no request is carried to its end.
func (s S3) Kill() {
	s.process.mu.Lock()
	defer s.process.mu.Unlock()
	s.process.kill()
}

// Restart starts the server again, on the same port and with the data that it left; one that
// still runs is killed first. It returns when the server answers.
func (s S3) Restart(ctx context.Context) error {
	p := s.process
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kill()
	return p.start(ctx, s)
}

func (p *s3Process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill() // fails when it has ended, which is as good
		<-p.ended
	}
}

// start starts the server and waits until it answers.
func (p *s3Process) start(ctx context.Context, s S3) (err error) {
	if p.cmd, p.ended, err = p.launch(); err != nil {
		p.cmd = nil
		return err
	}
	if err := waitReady(ctx, s, p.ended); err != nil {
		p.kill()
		said, _ := os.ReadFile(p.log) // whatever there is
		return fmt.Errorf("%w\n%s", err, said)
	}
	return nil
}

// startTimeout is how long a server may take until it answers; a loaded machine with two
// cores needs seconds.
const startTimeout = time.Minute

// s3Program is an S3 server program, and how it is told where to listen and whom to trust.
type s3Program struct {
	name string // of the binary
	args func(address, data string) []string
	env  func(s S3) []string
}

// start runs the program on a free port of the loopback interface, with its data in a
// temporary directory, and waits until it answers. It ends with the test, or with the
// process of the test where the platform can do that.
func (p s3Program) start(t testing.TB) S3 {
	t.Helper()
	binary := p.find(t)
	// Another process may take the free port before the server does: a few tries.
	var errs []error
	for range 3 {
		s, err := p.try(t, binary)
		if err == nil {
			return s
		}
		errs = append(errs, err)
	}
	t.Fatalf("cannot start %s: %v", p.name, errors.Join(errs...))
	return S3{}
}

// find returns the path of the program's binary, where "make tools" puts it. Without it the
// test is skipped, but in CI it fails: there a skipped test would pass unseen.
func (p s3Program) find(t testing.TB) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, ".tools", "bin", p.name)
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v: run 'make tools'", err)
		}
		t.Skipf("%s is not installed: run 'make tools'", p.name)
	}
	return path
}

// moduleRoot returns the directory above the test's that holds go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no go.mod above %q", dir)
		}
	}
}

func (p s3Program) try(t testing.TB, binary string) (S3, error) {
	t.Helper()
	address, err := freeAddress()
	if err != nil {
		return S3{}, err
	}
	// The account is new every time, so that a stranger on the port is not taken for ours.
	s := S3{Endpoint: "http://" + address, AccessKey: rand.Text()[:20], SecretKey: rand.Text(), Region: "us-east-1"}

	home := t.TempDir()
	data := filepath.Join(home, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return S3{}, err
	}
	s.process = &s3Process{log: filepath.Join(home, "log")}
	s.process.launch = func() (*exec.Cmd, <-chan struct{}, error) {
		log, err := os.OpenFile(s.process.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, nil, err
		}
		defer log.Close()
		cmd := exec.Command(binary, p.args(address, data)...)
		cmd.Dir = home
		// Nothing of the developer's environment, which may configure these servers.
		cmd.Env = append(p.env(s), "HOME="+home, "PATH="+os.Getenv("PATH"), "TMPDIR="+home)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = dieWithParent()
		ended, err := run(cmd)
		return cmd, ended, err
	}
	// Registered after TempDir, so it runs before the directory is removed.
	t.Cleanup(s.Kill)
	return s, s.process.start(t.Context(), s)
}

// freeAddress returns a port of the loopback interface that was free a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// run starts cmd and returns a channel that is closed when it has ended.
//
// The thread that started it stays until then: Linux ties the end of the child to that of
// the thread, not of the process (prctl(2), PR_SET_PDEATHSIG).
func run(cmd *exec.Cmd) (ended <-chan struct{}, err error) {
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed, mostly
		}
	}()
	return done, <-started
}

// waitReady asks for the list of buckets until the server gives it.
func waitReady(ctx context.Context, s S3, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := s3.New(s3.Options{
		BaseEndpoint:     aws.String(s.Endpoint),
		Region:           s.Region,
		UsePathStyle:     true,
		Credentials:      credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
		RetryMaxAttempts: 1,
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := client.ListBuckets(ctx, &s3.ListBucketsInput{})
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v: %w", startTimeout, err)
		case <-tick.C:
		}
	}
}
