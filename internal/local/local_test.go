//go:build linux || darwin || freebsd

package local

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// holdCommand has the test binary open a store, start its server, print its URL and wait to
// be killed; serveCommand has it serve one.
const (
	holdCommand  = "hold"
	serveCommand = "serve"
)

func TestMain(m *testing.M) {
	if os.Getenv("GORACE") == "" {
		// With -race, a program sleeps a second when it ends, and every server is one.
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // only slower where it fails
	}
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	var err error
	switch os.Args[1] {
	case ServerCommand:
		err = RunServer(os.Stdin, os.Stdout)
	case holdCommand:
		err = hold(os.Args[2])
	case serveCommand:
		err = serve(os.Args[2])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func hold(dir string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	e, err := s.Endpoint(context.Background())
	if err != nil {
		return err
	}
	fmt.Println(e.URL)
	select {}
}

func serve(dir string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	return s.Serve(context.Background(), ephemeral, func(url string) { fmt.Println(url) })
}

// another starts the test binary with one of the commands above on dir, and returns the URL
// that it prints.
func another(t *testing.T, command, dir string) (process *exec.Cmd, url string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], command, dir)
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // most tests have done so
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%s said nothing: %v", command, err)
	}
	return cmd, strings.TrimSpace(line)
}

// kinds are the two ways to keep metadata; every file system can do the second.
var kinds = map[metadata]func(string) (metadata, error){
	inXattrs:  probeMetadata,
	inSidecar: func(string) (metadata, error) { return inSidecar, nil },
}

// onBoth runs a test on a new store of each kind.
func onBoth(t *testing.T, test func(t *testing.T, dir string)) {
	for kind, probe := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			dir := t.TempDir()
			s, err := open(dir, probe)
			if err != nil {
				t.Fatal(err)
			}
			if s.metadata != kind {
				t.Skipf("the file system of %q keeps no extended attributes", dir)
			}
			test(t, dir)
		})
	}
}

// start opens the store in dir and starts its server, for the length of the test.
func start(t *testing.T, dir string) (*Store, *s3.Client) {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	e, err := s.Endpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, newClient(e.URL, s.Credentials())
}

func newClient(url string, c Credentials) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &url,
		Region:       Region,
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, ""),
	})
}

func put(t *testing.T, c *s3.Client, key, text string) {
	t.Helper()
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(Bucket), Key: &key, Body: strings.NewReader(text), ContentType: aws.String("text/plain"),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// get returns the object's text, or the code of the error.
func get(t *testing.T, c *s3.Client, key string) string {
	t.Helper()
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{
		Bucket: aws.String(Bucket), Key: &key, ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil {
		return code(err)
	}
	defer out.Body.Close()
	text, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// code returns the code of an S3 error, "" of none.
func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func remove(t *testing.T, c *s3.Client, key string) {
	t.Helper()
	if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(Bucket), Key: &key}); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, c *s3.Client) string {
	t.Helper()
	out, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(Bucket)})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, o := range out.Contents {
		keys = append(keys, *o.Key)
	}
	return strings.Join(keys, " ")
}

// eventually waits until something that another process does has happened.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !happened(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-tick.C
	}
}

func refuses(url string) bool {
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		return true
	}
	_ = conn.Close()
	return false
}

func TestObjects(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		_, c := start(t, dir)
		put(t, c, "a", "first")
		put(t, c, "b", "second")
		put(t, c, "b", "again")
		if got := list(t, c); got != "a b" {
			t.Errorf("keys %q", got)
		}
		if got := get(t, c, "b"); got != "again" {
			t.Errorf("got %q", got)
		}
		head, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{
			Bucket: aws.String(Bucket), Key: aws.String("a"), ChecksumMode: types.ChecksumModeEnabled,
		})
		if err != nil {
			t.Fatal(err)
		}
		if *head.ContentType != "text/plain" || *head.ContentLength != 5 || head.ChecksumCRC64NVME == nil {
			t.Errorf("type %q, %d bytes, CRC64NVME %v", *head.ContentType, *head.ContentLength, head.ChecksumCRC64NVME)
		}
		remove(t, c, "a")
		remove(t, c, "a") // as in S3, not an error
		if got := get(t, c, "a"); got != "NoSuchKey" {
			t.Errorf("after delete: %q", got)
		}
	})
}

func TestConditionalPut(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		_, one := start(t, dir)
		_, two := start(t, dir)
		errs := make(chan error, 8)
		for i := range cap(errs) {
			go func() {
				_, err := []*s3.Client{one, two}[i%2].PutObject(t.Context(), &s3.PutObjectInput{
					Bucket: aws.String(Bucket), Key: aws.String("k"), Body: strings.NewReader("x"), IfNoneMatch: aws.String("*"),
				})
				errs <- err
			}()
		}
		won := 0
		for range cap(errs) {
			switch err := <-errs; code(err) {
			case "":
				won++
			case "PreconditionFailed", "ConditionalRequestConflict":
			default:
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d of %d requests made the object", won, cap(errs))
		}
	})
}

// Two commands at once each run a server of their own on the same directory.
func TestTwoServers(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		_, one := start(t, dir)
		_, two := start(t, dir)
		put(t, one, "k", "from one")
		if got := get(t, two, "k"); got != "from one" {
			t.Errorf("two sees %q", got)
		}
		remove(t, two, "k")
		if got := get(t, one, "k"); got != "NoSuchKey" {
			t.Errorf("one sees %q", got)
		}

		// The parts of one upload go through both.
		parts := [][]byte{make([]byte, 5<<20), []byte("the end")}
		_, _ = rand.Read(parts[0])
		up, err := one.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(Bucket), Key: aws.String("big")})
		if err != nil {
			t.Fatal(err)
		}
		var done types.CompletedMultipartUpload
		for i, c := range []*s3.Client{one, two} {
			number := aws.Int32(int32(i + 1))
			out, err := c.UploadPart(t.Context(), &s3.UploadPartInput{
				Bucket: aws.String(Bucket), Key: aws.String("big"), UploadId: up.UploadId, PartNumber: number, Body: bytes.NewReader(parts[i]),
			})
			if err != nil {
				t.Fatal(err)
			}
			done.Parts = append(done.Parts, types.CompletedPart{PartNumber: number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32})
		}
		_, err = two.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
			Bucket: aws.String(Bucket), Key: aws.String("big"), UploadId: up.UploadId, MultipartUpload: &done,
		})
		if err != nil {
			t.Fatal(err)
		}
		if get(t, one, "big") != string(bytes.Join(parts, nil)) {
			t.Error("the object differs from its parts")
		}
	})
}

// Of an upload whose server is killed, nothing is visible; what ended before stays.
func TestServerKilled(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		s, c := start(t, dir)
		put(t, c, "whole", "text")
		up, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(Bucket), Key: aws.String("parts")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: aws.String(Bucket), Key: aws.String("parts"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("text"),
		})
		if err != nil {
			t.Fatal(err)
		}

		// Half the body is far more than the buffers on the way hold, so the server has read most of it.
		const size = 64 << 20
		url, err := s3.NewPresignClient(c).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(Bucket), Key: aws.String("half")})
		if err != nil {
			t.Fatal(err)
		}
		body, half := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = size
		answered := make(chan error, 1)
		go func() {
			resp, err := http.DefaultClient.Do(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			answered <- err
		}()
		if _, err := half.Write(make([]byte, size/2)); err != nil {
			t.Fatal(err)
		}
		if err := s.child.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-s.child.done
		_ = half.CloseWithError(io.ErrUnexpectedEOF) // the client waits for its body, not only for the server
		if err := <-answered; err == nil {
			t.Error("the upload was answered")
		}

		_, c = start(t, dir)
		if got := list(t, c); got != "whole" {
			t.Errorf("keys %q", got)
		}
		if got := get(t, c, "whole"); got != "text" {
			t.Errorf("got %q", got)
		}
		if got := get(t, c, "half"); got != "NoSuchKey" {
			t.Errorf("half an object: %q", got)
		}
		// The multipart upload is still known, so that it can be aborted.
		uploads, err := c.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(Bucket)})
		if err != nil {
			t.Fatal(err)
		}
		if len(uploads.Uploads) != 1 || *uploads.Uploads[0].UploadId != *up.UploadId {
			t.Fatalf("uploads %v", uploads.Uploads)
		}
		_, err = c.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: aws.String(Bucket), Key: aws.String("parts"), UploadId: up.UploadId})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// A server that is killed while it puts an upload together leaves the upload claimed. Whoever
// tries again must not be told that the object is there.
func TestCompleteKilled(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		s, c := start(t, dir)
		upload := func(key string) *s3.CompleteMultipartUploadInput {
			up, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(Bucket), Key: &key})
			if err != nil {
				t.Fatal(err)
			}
			part, err := c.UploadPart(t.Context(), &s3.UploadPartInput{
				Bucket: aws.String(Bucket), Key: &key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("text"),
			})
			if err != nil {
				t.Fatal(err)
			}
			return &s3.CompleteMultipartUploadInput{
				Bucket: aws.String(Bucket), Key: &key, UploadId: up.UploadId,
				MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}},
			}
		}
		// The claim has the ETag in its name, which is that of any upload of the same part.
		done, err := c.CompleteMultipartUpload(t.Context(), upload("done"))
		if err != nil {
			t.Fatal(err)
		}
		input := upload("k")
		found, err := filepath.Glob(filepath.Join(s.path(objectsDir), Bucket, ".sgwtmp", "multipart", "*", *input.UploadId))
		if err != nil || len(found) != 1 {
			t.Fatalf("upload %q is at %q, %v", *input.UploadId, found, err)
		}
		if err := os.Rename(found[0], found[0]+"."+strings.Trim(*done.ETag, `"`)+".inprogress"); err != nil {
			t.Fatal(err)
		}
		_, err = c.CompleteMultipartUpload(t.Context(), input, func(o *s3.Options) { o.RetryMaxAttempts = 1 })
		if code(err) != "SlowDown" {
			t.Errorf("got %v", err)
		}
		if got := get(t, c, "k"); got != "NoSuchKey" {
			t.Errorf("object %q", got)
		}
	})
}

func TestServerEndsWithParent(t *testing.T) {
	t.Run("killed", func(t *testing.T) {
		parent, url := another(t, holdCommand, t.TempDir())
		if refuses(url) {
			t.Fatal("no server")
		}
		if err := parent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the server is gone", func() bool { return refuses(url) })
	})
	t.Run("closed", func(t *testing.T) {
		s, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Endpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if !refuses(e.URL) {
			t.Error("the server still answers")
		}
		if _, err := s.Endpoint(t.Context()); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// Ctrl-C and what service managers send must not take the server from a parent that is still
// cleaning up.
func TestServerIgnoresSignals(t *testing.T) {
	s, c := start(t, t.TempDir())
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if err := s.child.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	put(t, c, "k", "text")
	if got := get(t, c, "k"); got != "text" {
		t.Errorf("got %q", got)
	}
}

func TestUnknownKey(t *testing.T) {
	s, _ := start(t, t.TempDir())
	c := newClient(s.endpoint.URL, Credentials{AccessKeyID: "FSUNKNOWN", SecretAccessKey: "secret"})
	if got := get(t, c, "k"); got != "InvalidAccessKeyId" {
		t.Errorf("unknown key: %q", got)
	}
	c = newClient(s.endpoint.URL, Credentials{AccessKeyID: s.Credentials().AccessKeyID, SecretAccessKey: "wrong"})
	if got := get(t, c, "k"); got != "SignatureDoesNotMatch" {
		t.Errorf("wrong secret: %q", got)
	}
	resp, err := http.Get(s.endpoint.URL + "/" + Bucket + "/k")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("no key at all: %s", resp.Status)
	}
}

func TestPresigned(t *testing.T) {
	_, c := start(t, t.TempDir())
	input := &s3.PutObjectInput{Bucket: aws.String(Bucket), Key: aws.String("k")}
	url, err := s3.NewPresignClient(c).PresignPutObject(t.Context(), input)
	if err != nil {
		t.Fatal(err)
	}
	for _, contentType := range []string{"", "image/png"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url.URL, strings.NewReader("by URL"))
		if err != nil {
			t.Fatal(err)
		}
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("content type %q: %s", contentType, resp.Status)
		}
		if got := get(t, c, "k"); got != "by URL" {
			t.Errorf("got %q", got)
		}
	}
}

// A browser asks before it uploads from another site's page.
func TestCORS(t *testing.T) {
	s, c := start(t, t.TempDir())
	preflight := func(origin string) (status int, allowed string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.endpoint.URL+"/"+Bucket+"/k", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", origin)
		req.Header.Set("Access-Control-Request-Method", "PUT")
		req.Header.Set("Access-Control-Request-Headers", "content-type")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Access-Control-Allow-Origin")
	}
	if status, allowed := preflight("https://a.example"); status != http.StatusOK || allowed != "*" {
		t.Errorf("a new bucket: %d, %q", status, allowed)
	}
	_, err := c.PutBucketCors(t.Context(), &s3.PutBucketCorsInput{Bucket: aws.String(Bucket), CORSConfiguration: &types.CORSConfiguration{
		CORSRules: []types.CORSRule{{AllowedOrigins: []string{"https://a.example"}, AllowedMethods: []string{"PUT"}, AllowedHeaders: []string{"*"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if status, allowed := preflight("https://a.example"); status != http.StatusOK || allowed != "https://a.example" {
		t.Errorf("an allowed origin: %d, %q", status, allowed)
	}
	if status, _ := preflight("https://b.example"); status != http.StatusForbidden {
		t.Errorf("another origin: %d", status)
	}
}

// serving has this process serve a store until ctx is done, and returns its address, and how that will have ended.
func serving(ctx context.Context, t *testing.T, s *Store) (string, <-chan error) {
	t.Helper()
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ephemeral, func(url string) { ready <- url }) }()
	select {
	case url := <-ready:
		return url, ended
	case err := <-ended:
		t.Fatal(err)
		return "", nil
	}
}

func TestServe(t *testing.T) {
	dir := t.TempDir()
	server, url := another(t, serveCommand, dir)

	s, c := start(t, dir)
	if want := (Endpoint{URL: url, Served: true}); s.endpoint != want {
		t.Fatalf("endpoint %+v, want %+v", s.endpoint, want)
	}
	put(t, c, "k", "text")

	err := s.Serve(t.Context(), ephemeral, func(string) { t.Error("a second one serves") })
	if e, ok := errors.AsType[*ServedError](err); !ok || e.URL != url {
		t.Errorf("a second one: %v", err)
	}

	// Killed, it leaves its file, but no lock.
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait()
	if _, err := os.Stat(filepath.Join(dir, servedFile)); err != nil {
		t.Fatal(err)
	}
	s, c = start(t, dir)
	if s.endpoint.Served {
		t.Errorf("a killed server is found at %s", s.endpoint.URL)
	}
	if got := get(t, c, "k"); got != "text" {
		t.Errorf("got %q", got)
	}

	// The next one takes over, and withdraws when it ends.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	next, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	url, ended := serving(ctx, t, next)
	if s, _ = start(t, dir); s.endpoint.URL != url {
		t.Errorf("endpoint %+v, want %q", s.endpoint, url)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !refuses(url) {
		t.Error("the server still answers")
	}
	if s, _ = start(t, dir); s.endpoint.Served {
		t.Errorf("found at %s after its end", s.endpoint.URL)
	}
}

// What was written through a server that is served is told to the process that serves it, whoever has
// written it and how.
func TestServeTells(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	s.Created = func(key string) { told = append(told, key) }
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	url, ended := serving(ctx, t, s)
	c := newClient(url, s.Credentials())

	put(t, c, "put", "text")
	put(t, c, "line\n\"feed", "text")
	_, err = c.CopyObject(t.Context(), &s3.CopyObjectInput{
		Bucket: aws.String(Bucket), Key: aws.String("copied"), CopySource: aws.String(Bucket + "/put"),
	})
	if err != nil {
		t.Fatal(err)
	}
	parts := &s3.CreateMultipartUploadInput{Bucket: aws.String(Bucket), Key: aws.String("parts")}
	upload, err := c.CreateMultipartUpload(t.Context(), parts)
	if err != nil {
		t.Fatal(err)
	}
	part, err := c.UploadPart(t.Context(), &s3.UploadPartInput{
		Bucket: parts.Bucket, Key: parts.Key, UploadId: upload.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("text"),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: parts.Bucket, Key: parts.Key, UploadId: upload.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// What fails, and what only reads or deletes, is not told.
	_, err = c.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(Bucket), Key: aws.String("put"), Body: strings.NewReader("other"), IfNoneMatch: aws.String("*"),
	})
	if got := code(err); got != "PreconditionFailed" {
		t.Errorf("overwriting: %q", got)
	}
	_ = get(t, c, "put")
	remove(t, c, "put")

	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if want := []string{"put", "line\n\"feed", "copied", "parts"}; !slices.Equal(told, want) {
		t.Errorf("told of %q, not of %q", told, want)
	}

	// The store works on, with a server of its own.
	defer func() { _ = s.Close() }()
	e, err := s.Endpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, newClient(e.URL, s.Credentials()), "copied"); e.Served || got != "text" {
		t.Errorf("afterwards %+v, %q", e, got)
	}
}

// An upload that is under way when the server is told to end may finish, and is told.
func TestServeTellsAtTheEnd(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	s.Created = func(key string) { told = append(told, key) }
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	url, ended := serving(ctx, t, s)
	signer := s3.NewPresignClient(newClient(url, s.Credentials()))
	signed, err := signer.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(Bucket), Key: aws.String("late")})
	if err != nil {
		t.Fatal(err)
	}
	body, rest := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, signed.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	// More than the buffers of a connection hold, so that the server has begun to read it.
	const first, last = 24 << 20, 1 << 20
	req.ContentLength = first + last
	answered := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
		}
		answered <- err
	}()
	if _, err := rest.Write(make([]byte, first)); err != nil {
		t.Fatal(err)
	}
	stop()
	eventually(t, "the server takes no more connections", func() bool { return refuses(url) })
	if _, err := rest.Write(make([]byte, last)); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !slices.Equal(told, []string{"late"}) {
		t.Errorf("told of %q", told)
	}
}

// Lines come in pieces and several at once.
func TestChildOutput(t *testing.T) {
	var told []string
	w := &childOutput{first: make(chan []byte, 1), created: func(key string) { told = append(told, key) }}
	for _, piece := range []string{`{"url`, `":"u"}`, "\n" + `{"created":"a"}` + "\n" + `{"created":"b"}`, "\n", "noise\n{}\n" + `{"created":"c"}` + "\n", `{"created":"cut`} {
		if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("%q: %d, %v", piece, n, err)
		}
	}
	if first := <-w.first; string(first) != `{"url":"u"}` {
		t.Errorf("first line %q", first)
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(told, want) {
		t.Errorf("told of %q, not of %q", told, want)
	}
}

func TestServeServerDies(t *testing.T) {
	// A child that gets ready and dies.
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.Executable = script(t, `read config; echo '{"url":"http://127.0.0.1:1"}'; echo 'no memory' >&2; exit 3`)
	err = s.Serve(t.Context(), ephemeral, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no memory") {
		t.Errorf("got %v", err)
	}
}

func TestServeAddress(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", ephemeral)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		addr  string
		inUse bool
	}{
		{taken.Addr().String(), true},
		{"0.0.0.0:0", false},
		{"192.0.2.1:0", false},
		{"localhost", false},
		{"", false},
	} {
		err := s.Serve(t.Context(), test.addr, func(url string) { t.Errorf("%q: serves at %s", test.addr, url) })
		if e, ok := errors.AsType[*ListenError](err); !ok || e.InUse != test.inUse || e.Addr != test.addr {
			t.Errorf("%q: %#v", test.addr, err)
		}
	}
}

// script makes a program of a few lines of shell.
func script(t *testing.T, lines string) string {
	name := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+lines+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestStartFails(t *testing.T) {
	for name, test := range map[string]struct{ program, want string }{
		"no such program": {filepath.Join(t.TempDir(), "missing"), "no such file"},
		"dies":            {script(t, `echo 'panic: no memory' >&2; exit 3`), "exit status 3; its last words: panic: no memory"},
		"not our program": {script(t, `echo hello; cat >/dev/null`), `it said "hello"`},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			s.Executable = test.program
			if _, err := s.Endpoint(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		s, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		s.Executable = script(t, `cat >/dev/null`) // ends with its pipe, never gets ready
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Endpoint(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// The key of the API is made once, for the owner alone, and is another one in another store. So is that of tokens.
func TestAPIKey(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, file, err := s.APIKey()
	if err != nil || len(key) < 26 {
		t.Fatalf("key %q, %v", key, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	tokens, err := s.TokenKey()
	if err != nil || len(tokens) != 32 {
		t.Errorf("%d bytes, %v", len(tokens), err)
	}

	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if same, _, err := again.APIKey(); err != nil || same != key {
		t.Errorf("key %q and then %q, %v", key, same, err)
	}
	if same, err := again.TokenKey(); err != nil || !bytes.Equal(same, tokens) {
		t.Errorf("tokens have another key, %v", err)
	}
	other, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if differs, _, err := other.APIKey(); err != nil || differs == key {
		t.Errorf("another store has the same key, %v", err)
	}
	if differs, err := other.TokenKey(); err != nil || bytes.Equal(differs, tokens) {
		t.Errorf("the tokens of another store have the same key, %v", err)
	}

	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if key, _, err := s.APIKey(); err == nil {
		t.Errorf("an empty file has the key %q", key)
	}
}

func TestPermissions(t *testing.T) {
	onBoth(t, func(t *testing.T, dir string) {
		_, c := start(t, dir)
		put(t, c, "k", "text")
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				t.Error(err)
				return nil
			}
			info, err := d.Info()
			if err != nil {
				t.Error(err)
				return nil
			}
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s is open to others: %s", path, info.Mode())
			}
			return nil
		})
	})
}

// A store that others can change is not used: they could have its user's next command do what they like.
func TestOpenUnsafe(t *testing.T) {
	for _, test := range []struct {
		file   string
		mode   fs.FileMode
		unsafe bool
	}{
		{".", 0o700, false}, {".", 0o755, false}, {".", 0o770, true}, {".", 0o1777, true},
		{credentialsFile, 0o400, false}, {credentialsFile, 0o640, true}, {credentialsFile, 0o602, true},
		{recordsFile, 0o604, true},
	} {
		dir := t.TempDir()
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(recordsFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(s.path(test.file), test.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); is[*UnsafeError](err) != test.unsafe || err != nil && !test.unsafe {
			t.Errorf("%s with mode %o: %v", test.file, test.mode, err)
		}
	}
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	me := os.Geteuid()
	for user, unsafe := range map[int]bool{me: false, me + 1: me != 0, 0: false} {
		if err := s.checkPrivate(user); is[*UnsafeError](err) != unsafe || err != nil && !unsafe {
			t.Errorf("of user %d for user %d: %v", me, user, err)
		}
	}
	if me == 0 { // who may give files away
		if err := os.Chown(s.dir, 4711, -1); err != nil {
			t.Fatal(err)
		}
		for user, unsafe := range map[int]bool{0: false, 4711: false, 4712: true} {
			if err := s.checkPrivate(user); is[*UnsafeError](err) != unsafe || err != nil && !unsafe {
				t.Errorf("of user 4711 for user %d: %v", user, err)
			}
		}
	}
}

func TestFirstOpens(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	const processes = 8
	var wg sync.WaitGroup
	clients := make(chan *s3.Client, processes)
	found := make(chan Credentials, processes)
	for range processes {
		wg.Go(func() {
			s, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = s.Close() })
			e, err := s.Endpoint(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			found <- s.Credentials()
			clients <- newClient(e.URL, s.Credentials())
		})
	}
	wg.Wait()
	close(found)
	close(clients)
	distinct := map[Credentials]bool{}
	for c := range found {
		distinct[c] = true
	}
	if len(distinct) != 1 {
		t.Errorf("%d different credentials", len(distinct))
	}
	i := 0
	for c := range clients {
		put(t, c, fmt.Sprint(i), "text")
		i++
	}
	if i != processes {
		t.Errorf("%d servers of %d", i, processes)
	}
}

// A store or a bucket whose maker was killed is finished by the next.
func TestUnfinished(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{lockFile, credentialsFile} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, objectsDir, Bucket), 0o700); err != nil {
		t.Fatal(err)
	}
	_, c := start(t, dir)
	put(t, c, "k", "text")
	if _, err := c.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: aws.String(Bucket)}); err != nil {
		t.Error(err)
	}
	_, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(Bucket)})
	if code(err) != "BucketAlreadyOwnedByYou" {
		t.Errorf("create again: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		file, text string
		want       func(error) bool
	}{
		"another's directory":  {"photo.jpg", "", is[*NotStoreError]},
		"another's format":     {formatFile, `{"program": "other", "version": 1}`, is[*NotStoreError]},
		"not JSON":             {formatFile, `version: 1`, is[*NotStoreError]},
		"unknown metadata":     {formatFile, `{"program": "filestore", "version": 1, "metadata": "tape"}`, is[*NotStoreError]},
		"credentials missing":  {formatFile, `{"program": "filestore", "version": 1, "metadata": "xattr"}`, is[*NotStoreError]},
		"of a newer program":   {formatFile, `{"program": "filestore", "version": 2, "else": true}`, is[*VersionError]},
		"lock file is no file": {lockFile + "/x", "", is[*fs.PathError]},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, test.file)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir); !test.want(err) {
				t.Errorf("got %v", err)
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) != 1 {
				t.Errorf("it left %v", entries)
			}
		})
	}
}

// is reports whether err is, or wraps, an error of type T.
func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// The secret must not be where other users of the machine can read it.
func TestSecretIsHidden(t *testing.T) {
	s, _ := start(t, t.TempDir())
	for _, arg := range append(s.child.cmd.Args, s.child.cmd.Environ()...) {
		if strings.Contains(arg, s.Credentials().SecretAccessKey) {
			t.Errorf("the secret is in %q", arg)
		}
	}
}

func TestRunServerConfiguration(t *testing.T) {
	// A server that can't start says why, on its standard output.
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.path(objectsDir)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Endpoint(t.Context()); err == nil || !strings.Contains(err.Error(), objectsDir) {
		t.Errorf("without its objects: %v", err)
	}
	for _, line := range []string{"", "{}", "{}\n", "no JSON\n"} {
		if err := RunServer(strings.NewReader(line), io.Discard); err == nil {
			t.Errorf("configuration %q was accepted", line)
		}
	}
}

// An upload of more than some 700 parts has more part sizes than ext4 has room for.
func TestManyParts(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := (xattrs{}).StoreAttribute(f, "", "", partSizes, make([]byte, 60<<10)); err != nil {
		t.Errorf("sizes of 10,000 parts: %v", err)
	}
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("HOME", "/home/u")
	t.Setenv("XDG_DATA_HOME", "")
	dir, err := DefaultDir()
	if err != nil || !strings.HasPrefix(dir, "/home/u/") || filepath.Base(dir) != "filestore" {
		t.Errorf("%q, %v", dir, err)
	}
	t.Setenv("HOME", "")
	if dir, err := DefaultDir(); err == nil {
		t.Errorf("without a home: %q", dir)
	}
}

func TestServedFileGarbage(t *testing.T) {
	// Locked, but not by a program of this kind.
	dir := t.TempDir()
	s, _ := start(t, dir)
	f, err := lockNow(s.path(servedFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, text := range []string{"", "no JSON", "{}"} {
		if err := os.WriteFile(f.Name(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if url, ok := s.served(); ok {
			t.Errorf("%q: served at %q", text, url)
		}
	}
	if err := json.NewEncoder(f).Encode(served{URL: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if url, ok := s.served(); !ok || url != "http://127.0.0.1:1" {
		t.Errorf("%q, %v", url, ok)
	}
}

// How long a command waits for its server, and for its end.
func BenchmarkEndpoint(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Endpoint(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
