//go:build linux || darwin || freebsd

package local

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
	"golang.org/x/sys/unix"
)

const (
	// ephemeral is the address for a server whose port does not matter.
	ephemeral = "127.0.0.1:0"

	// maxCopySize is the most that one CopyObject copies, in bytes: 5 GiB, as Amazon S3 has it
	// (API reference, "CopyObject"). The backend takes zero for no bytes at all.
	maxCopySize = 5 << 30

	// maxConnections is far above what one user's programs open; each request beyond it is
	// answered with SlowDown.
	maxConnections = 4096
)

// RunServer is the body of the hidden command [ServerCommand]: the S3 server of a local
// store. It reads its configuration from stdin, one line, answers on stdout, one line, and
// serves until stdin ends, which it does at the latest when the parent process is gone. It
// changes the working directory, the umask and the signal handling of its process, which
// must do nothing else and end when RunServer returns.
func RunServer(stdin io.Reader, stdout io.Writer) error {
	in := bufio.NewReader(stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	var config serverConfig
	if err := json.Unmarshal(line, &config); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if config.Objects == "" || config.Listen == "" || config.Credentials.AccessKeyID == "" || config.Credentials.SecretAccessKey == "" {
		return errors.New("read the configuration: it is not complete")
	}
	parentGone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in)
		close(parentGone)
	}()
	// What stops the parent must not stop the server: the parent may still need it to clean up.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// Of the metadata in a sidecar directory, versitygw leaves the mode to the umask.
	unix.Umask(0o077)

	var telling sync.Mutex
	tell := func(v any) {
		telling.Lock()
		defer telling.Unlock()
		_ = json.NewEncoder(stdout).Encode(v) // without a parent, stdin ends too
	}
	answer := func(r serverReady) { tell(r) }
	server := &server{ready: func(url string) { answer(serverReady{URL: url}) }}
	if config.Created {
		server.created = func(key string) { tell(serverEvent{Created: key}) }
	}
	if err := server.open(config); err != nil {
		answer(serverReady{Error: err.Error()})
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- server.listen(config.Listen) }()
	select {
	case err := <-failed:
		r := serverReady{Error: err.Error()}
		if e, ok := errors.AsType[*ListenError](err); ok {
			r.Listen = e
		}
		answer(r) // ignored by a parent that was told that the server is ready
		return err
	case <-parentGone:
		server.shutdown(config.Grace)
		return nil
	}
}

// server is versitygw on one directory.
type server struct {
	ready   func(url string)
	created func(key string) // may be nil

	api  *s3api.S3ApiServer
	addr string // that listen is trying
}

// open sets the server up, and makes the bucket when it is missing.
func (s *server) open(config serverConfig) error {
	var storer meta.MetadataStorer = xattrs{}
	if config.Sidecar != "" {
		sidecar, err := meta.NewSideCar(config.Sidecar)
		if err != nil {
			return fmt.Errorf("open %q: %w", config.Sidecar, err)
		}
		storer = sidecar
	}
	// VersioningDir stays empty: the bucket is not versioned. SideCarDir would only have a line
	// printed on standard output, which is for the parent.
	opts := posix.PosixOpts{CopyObjectThreshold: maxCopySize}
	opts.SetNewDirPerm(0o700)
	opts.SetNewFilePerm(0o600)
	files, err := posix.New(config.Objects, storer, opts)
	if err != nil {
		return fmt.Errorf("open %q: %w", config.Objects, err)
	}
	if err := ensureBucket(files, config); err != nil {
		return fmt.Errorf("make bucket %q in %q: %w", Bucket, config.Objects, err)
	}
	go removeLeftovers(time.Now()) // nobody waits for it

	key := config.Credentials
	s.api, err = s3api.New(backend{files, s.created},
		middlewares.RootUserConfig{Access: key.AccessKeyID, Secret: key.SecretAccessKey}, Region, newAccounts(key),
		nil, nil, nil, nil, // no access log, no admin log, no events, no metrics
		s3api.WithQuiet(), s3api.WithKeepAlive(),
		s3api.WithConcurrencyLimiter(maxConnections, maxConnections),
		s3api.WithOnListen(func() { s.ready("http://" + s.addr) }),
	)
	return err
}

// backend is the posix backend with one answer corrected, that tells which objects were written. The events
// of versitygw itself come with a request that is still to be read, and are sent by brokers of messages.
type backend struct {
	*posix.Posix
	created func(key string) // may be nil
}

// tell tells that the object is there. Its client learns of it afterwards.
func (b backend) tell(bucket, key *string, err error) {
	if err == nil && b.created != nil && aws.ToString(bucket) == Bucket {
		b.created(aws.ToString(key))
	}
}

// What writes gets a context that does not end with the server: fasthttp has those of all requests end as soon
// as it is told to shut down, and the backend then breaks off what is to have its grace.

// PutObject tells of what it has written.
func (b backend) PutObject(ctx context.Context, input s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	output, err := b.Posix.PutObject(context.WithoutCancel(ctx), input)
	b.tell(input.Bucket, input.Key, err)
	return output, err
}

// UploadPart is one that writes.
func (b backend) UploadPart(ctx context.Context, input *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	return b.Posix.UploadPart(context.WithoutCancel(ctx), input)
}

// CopyObject tells of what it has written.
func (b backend) CopyObject(ctx context.Context, input s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	output, err := b.Posix.CopyObject(context.WithoutCancel(ctx), input)
	b.tell(input.Bucket, input.Key, err)
	return output, err
}

// CompleteMultipartUpload asks the client to try again where versitygw says that all is done,
// because it found the upload claimed by another request, while there is no object: that
// request may still be at work, or its server was killed.
func (b backend) CompleteMultipartUpload(ctx context.Context, input *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	result, version, err := b.Posix.CompleteMultipartUpload(context.WithoutCancel(ctx), input)
	if err != nil {
		return result, version, err
	}
	// Relative to the root, the working directory; a successful request named both.
	if _, err := os.Lstat(filepath.Join(*input.Bucket, *input.Key)); errors.Is(err, fs.ErrNotExist) {
		return s3response.CompleteMultipartUploadResult{}, "", s3err.GetAPIError(s3err.ErrSlowDown)
	}
	b.tell(input.Bucket, input.Key, nil)
	return result, version, nil
}

// ensureBucket makes the bucket, private and with the CORS rule of docs/contract.md, "The
// parts". Other processes may be doing the same, and one that did it may have been killed.
func ensureBucket(files *posix.Posix, config serverConfig) error {
	ctx := context.Background()
	// The ownership is what is set last.
	if _, err := files.GetBucketOwnershipControls(ctx, Bucket); err == nil {
		return nil
	}
	lock, err := lockWait(config.Lock)
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := files.GetBucketOwnershipControls(ctx, Bucket); err == nil {
		return nil
	}
	// Not CreateBucket, which refuses a bucket that was left half made.
	if err := os.Mkdir(Bucket, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	acl, err := json.Marshal(auth.ACL{Owner: config.Credentials.AccessKeyID})
	if err != nil {
		return err
	}
	cors, err := xml.Marshal(auth.CORSConfiguration{Rules: []auth.CORSRule{{
		AllowedOrigins: []auth.CORSOrigin{"*"},
		AllowedHeaders: []auth.CORSHeader{"*"},
		AllowedMethods: []auth.CORSHTTPMethod{"PUT", "POST", "GET"},
	}}})
	if err != nil {
		return err
	}
	if err := files.PutBucketAcl(ctx, Bucket, acl); err != nil {
		return err
	}
	if err := files.PutBucketCors(ctx, Bucket, cors); err != nil {
		return err
	}
	return files.PutBucketOwnershipControls(ctx, Bucket, types.ObjectOwnershipBucketOwnerEnforced)
}

// listen serves on addr. It returns only when that fails.
func (s *server) listen(addr string) error {
	if _, port, err := net.SplitHostPort(addr); err != nil || port != "0" {
		s.addr = addr
		return s.listenError(s.api.ServeMultiPort([]string{addr}))
	}
	// The API takes an address, no listener, and does not say which port it got. So the system is
	// asked for a free one first; in the rare case that another program takes it in between,
	// listening fails and the next is tried.
	const attempts = 20
	var err error
	for range attempts {
		if s.addr, err = freeAddr(addr); err != nil {
			return &ListenError{Addr: addr, Reason: err.Error()}
		}
		err = s.listenError(s.api.ServeMultiPort([]string{s.addr}))
		if e, ok := errors.AsType[*ListenError](err); !ok || !e.InUse {
			break
		}
	}
	return err
}

// freeAddr returns addr with a port that was free a moment ago.
func freeAddr(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// listenError tells errors of the address from others.
func (s *server) listenError(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "listen" {
		return &ListenError{Addr: s.addr, InUse: errors.Is(err, syscall.EADDRINUSE), Reason: op.Err.Error()}
	}
	return err
}

// shutdown takes no more connections and returns when all requests have ended, after grace at
// the latest.
func (s *server) shutdown(grace time.Duration) {
	if grace <= 0 {
		return
	}
	idle := make(chan struct{})
	go func() {
		_ = s.api.ShutDown()
		close(idle)
	}()
	select {
	case <-idle:
	case <-time.After(grace):
	}
}

// accounts knows the one account of a local store. The service of versitygw for one account
// has an unknown key answered with 404 XAdminUserNotFound; Amazon S3 answers 403
// InvalidAccessKeyId (API reference, "Error responses").
type accounts struct {
	auth.IAMService
}

func newAccounts(c Credentials) accounts {
	return accounts{auth.NewIAMServiceSingle(auth.Account{
		Access: c.AccessKeyID, Secret: c.SecretAccessKey, Role: auth.RoleAdmin,
	})}
}

// GetUserAccount fails with auth.ErrNoSuchUser for every key but the one.
func (a accounts) GetUserAccount(access string) (auth.Account, error) {
	account, err := a.IAMService.GetUserAccount(access)
	if err != nil {
		return auth.Account{}, auth.ErrNoSuchUser
	}
	return account, nil
}

// xattrs keeps metadata in extended attributes.
type xattrs struct {
	meta.XattrMeta
}

// partSizes is the attribute in which versitygw keeps the sizes of the parts of a multipart
// upload. Only GetObject and HeadObject by part number need it.
const partSizes = "mp-metadata"

// StoreAttribute leaves out the sizes of the parts where there is no room for them: a file's
// attributes get 4 KiB on ext4, which some 700 parts fill, and versitygw would refuse
// to complete the upload.
func (x xattrs) StoreAttribute(f *os.File, bucket, object, attribute string, value []byte) error {
	err := x.XattrMeta.StoreAttribute(f, bucket, object, attribute, value)
	if attribute == partSizes {
		return nil
	}
	return err
}
