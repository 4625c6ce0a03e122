//go:build linux

package memorytest

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/minio/crc64nvme"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/recordstest"
	"github.com/designfultech/filestore/internal/testserver"
)

const (
	mib = 1 << 20
	gib = 1 << 30
	// size is that of what is moved: many times what the program may take.
	size  = 3 * gib
	table = "files"
)

// TestMemory moves 3 GiB through the program in each way, and looks at what it took at most. The
// kernel holds it to a limit, too: beyond that it gets no memory, and ends with an error.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("moves gigabytes")
	}
	f := &filestore{program: testserver.Program(t), dynamoDB: testserver.Dynalite(t)}
	if _, err := testserver.DynamoDB(f.dynamoDB).CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String(table), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
	}); err != nil {
		t.Fatal(err)
	}
	data := newContent(size)
	sum := data.checksum(0, size)

	t.Run("upload of a stream", func(t *testing.T) {
		p := f.start(t, &nullS3{content: data, sum: sum}, "upload", "--name", "stream.bin", "-")
		if err := copyTo(p.stdin, data.reader(0, size)); err != nil {
			t.Error(err)
		}
		p.stdin.Close()
		out, err := io.ReadAll(p.stdout)
		if err != nil {
			t.Error(err)
		}
		p.wait(t)
		if fields := strings.Split(string(out), "\t"); len(fields) < 3 || fields[2] != fmt.Sprint(size) {
			t.Errorf("it says %q", out)
		}
		p.wantPeak(t, 200*mib)
	})

	t.Run("upload of a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sparse.bin")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		empty := zeros(size)
		p := f.start(t, &nullS3{content: empty, sum: empty.checksum(0, size)}, "upload", path)
		p.wait(t)
		p.wantPeak(t, 64*mib)
	})

	t.Run("download to standard output", func(t *testing.T) {
		const id = "abcdefghij012345"
		now := records.Stamp("2026-01-01T00:00:00")
		if _, err := testserver.DynamoDB(f.dynamoDB).PutItem(t.Context(), &dynamodb.PutItemInput{
			TableName: aws.String(table),
			Item: recordstest.Item(records.Record{
				ID: id, Name: "stream.bin", Type: "application/octet-stream", Size: size, CreatedAt: now, UploadedAt: now, StoredAt: now,
			}),
		}); err != nil {
			t.Fatal(err)
		}
		p := f.start(t, &nullS3{content: data, sum: sum}, "download", "-o", "-", id)
		h := crc64nvme.New()
		// While it can't write the last megabyte, which no pipe takes, it can't end.
		if err := copyTo(h, io.LimitReader(p.stdout, size-mib)); err != nil {
			t.Error(err)
		}
		p.look()
		if err := copyTo(h, p.stdout); err != nil {
			t.Error(err)
		}
		p.wait(t)
		if encode(h) != sum {
			t.Error("what came is not what S3 holds")
		}
		p.wantPeak(t, 200*mib)
	})
}

// filestore is where the program works.
type filestore struct{ program, dynamoDB string }

// process is the program at work.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr bytes.Buffer
	peak   int64 // bytes of resident memory at most, -1: nobody has looked
	err    error
}

// most is how much memory for data the kernel gives to the program, in bytes: the heap and all that
// the Go runtime has beside it (setrlimit(2), RLIMIT_DATA).
const most = 384 * mib

// start starts the program on an S3 server. When that has an upload complete, the process is looked
// at.
func (f *filestore) start(t *testing.T, s3 *nullS3, args ...string) *process {
	t.Helper()
	p := &process{peak: -1}
	s3.whole = func() { p.look() }
	server := httptest.NewServer(s3)
	t.Cleanup(server.Close)
	// Where the program is linked with the C library, its threads have stacks of the size of -s.
	limited := append([]string{"-c", `ulimit -s 1024 && ulimit -d "$0" && exec "$@"`, fmt.Sprint(most / 1024), f.program}, args...)
	p.cmd = exec.CommandContext(t.Context(), "sh", limited...)
	p.cmd.Env = []string{ // no GOMEMLIMIT and no GOGC
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=us-east-1",
		"AWS_ENDPOINT_URL_S3=" + server.URL, "AWS_ENDPOINT_URL_DYNAMODB=" + f.dynamoDB,
		"FILESTORE_BUCKET=bucket", "FILESTORE_TABLE=" + table,
	}
	p.cmd.Stderr = &p.stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if p.stdout, err = p.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// look notes how much memory the process has had at most (proc_pid_status(5), VmHWM). What wait4(2)
// tells after the end is no good: it counts the memory of the process that started this one.
func (p *process) look() {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.err = err
		return
	}
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		p.err = fmt.Errorf("no VmHWM in %s", status)
		return
	}
	kib, err := strconv.ParseInt(string(found[1]), 10, 64)
	p.peak, p.err = kib*1024, err
}

// wait waits for the end, which must be a success.
func (p *process) wait(t *testing.T) {
	t.Helper()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, &p.stderr)
	}
}

func (p *process) wantPeak(t *testing.T, most int64) {
	t.Helper()
	if p.err != nil {
		t.Fatal(p.err)
	}
	t.Logf("%d MiB of resident memory at most", p.peak/mib)
	if p.peak < 0 || p.peak > most {
		t.Errorf("it took %d MiB, want no more than %d", p.peak/mib, most/mib)
	}
}
