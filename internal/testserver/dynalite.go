package testserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// Dynalite starts dynalite, a DynamoDB that keeps its tables in memory, and returns its
// endpoint. It serves t and its subtests, and ends with t. Each call starts another one, which
// takes about half a second: tests share one by being subtests, each with a table of its own.
func Dynalite(t testing.TB) (endpoint string) {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(root, ".tools", "node_modules", "dynalite", "cli.js")
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(script)
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("dynalite is not installed: run 'make tools': %v", err)
		}
		t.Skip("dynalite is not installed: run 'make tools'")
	}
	// Another process may take the free port before the server does: a few tries.
	var errs []error
	for range 3 {
		endpoint, err := startDynalite(t, node, script)
		if err == nil {
			return endpoint
		}
		errs = append(errs, err)
	}
	t.Fatalf("cannot start dynalite: %v", errors.Join(errs...))
	return ""
}

func startDynalite(t testing.TB, node, script string) (endpoint string, err error) {
	address, err := freeAddress()
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(node, "--import", survive, script, "--host", host, "--port", port,
		"--createTableMs", "0", "--deleteTableMs", "0", "--updateTableMs", "0")
	// It says so when it listens. A stranger on the port keeps it from saying that.
	out := &awaited{text: []byte("listening at"), seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = dieWithParent()
	ended, err := run(cmd)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails when it has ended, which is as good
		<-ended
	})
	select {
	case <-out.seen:
		return "http://" + address, nil
	case <-ended:
		return "", fmt.Errorf("it ended: %s", out)
	case <-time.After(startTimeout):
		return "", fmt.Errorf("it does not listen after %s: %s", startTimeout, out)
	}
}

// survive is a module that keeps dynalite from ending when a client breaks off a request that it is
// still sending: dynalite throws that error, and nobody catches it. A server of AWS serves on.
const survive = `data:text/javascript,process.on("uncaughtException",(e)=>{if(e.code!=="ECONNRESET"){console.error(e);process.exit(1)}})`

// awaited is the output of a process, in which a text is awaited: then seen is closed.
type awaited struct {
	text []byte
	seen chan struct{}

	mu     sync.Mutex
	output []byte
	found  bool
}

func (a *awaited) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.output = append(a.output, p...)
	if !a.found && bytes.Contains(a.output, a.text) {
		a.found = true
		close(a.seen)
	}
	return len(p), nil
}

func (a *awaited) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(a.output)
}

// DynamoDB returns a client of the DynamoDB at endpoint, with credentials such as dynalite
// takes: any. It asks again where an answer breaks off, as the program does: one of dynalite was seen to.
func DynamoDB(endpoint string, optFns ...func(*dynamodb.Options)) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(endpoint),
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
		Retryer:      Retryer(),
	}, optFns...)
}

// Retryer returns the SDK's standard one, which tries again what breaks off too: the SDK takes that for a malformed answer.
func Retryer(optFns ...func(*retry.StandardOptions)) aws.Retryer {
	return retry.NewStandard(append([]func(*retry.StandardOptions){func(o *retry.StandardOptions) {
		o.Retryables = append(slices.Clip(o.Retryables), retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return aws.TrueTernary
			}
			return aws.UnknownTernary
		}))
	}}, optFns...)...)
}
