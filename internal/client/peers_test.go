package client_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	managertypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/testserver"
)

// sdk returns a client of S3 such as the SDK makes it for anybody, with checksums by default.
func (on servers) sdk(options ...func(*s3.Options)) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(on.s3.Endpoint), Region: on.s3.Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(on.s3.AccessKey, on.s3.SecretKey, ""),
		// What the SDK's configuration has by default.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}, options...)
}

// environ is the environment of another tool, with nothing of the developer's configuration.
func (on servers) environ() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
		"AWS_REGION=" + on.s3.Region, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + on.s3.AccessKey, "AWS_SECRET_ACCESS_KEY=" + on.s3.SecretKey,
	}
}

// tool returns the path of a program that need not be there: on PATH, or in .tools/bin.
func tool(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path, err := filepath.Abs(filepath.Join("..", "..", ".tools", "bin", name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// needsCRC64NVME skips the rest of a test for an aws-cli that is too old to know that checksum, and to tell of it.
func needsCRC64NVME(t *testing.T, path string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), path, "--version").CombinedOutput()
	var major, minor int
	if _, scanErr := fmt.Sscanf(string(out), "aws-cli/%d.%d", &major, &minor); err != nil || scanErr != nil {
		t.Fatalf("%v, %v: %s", err, scanErr, out)
	}
	if first := map[int]int{1: 37, 2: 23}; minor < first[major] {
		t.Skipf("aws-cli %d.%d compares no CRC-64/NVME", major, minor)
	}
}

// What was uploaded here, others accept, with the checksum that S3 holds compared.
func testOthersDownload(t *testing.T, on servers) {
	if testserver.Race {
		t.Skip("the work is done by others")
	}
	for how, data := range map[string][]byte{"whole": randomBytes(100_000), "in parts": randomBytes(11 * mib)} {
		f := on.open(t)
		r, err := f.Upload(t.Context(), client.UploadRequest{Name: "a.bin", File: tempFile(t, data)})
		if err != nil {
			t.Fatal(err)
		}
		t.Run("SDK/"+how, func(t *testing.T) {
			out, err := on.sdk().GetObject(t.Context(), &s3.GetObjectInput{Bucket: &f.Bucket, Key: &r.ID, ChecksumMode: types.ChecksumModeEnabled})
			if err != nil {
				t.Fatal(err)
			}
			defer out.Body.Close()
			got, err := io.ReadAll(out.Body) // fails where the checksum does not fit
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d: %v", len(got), len(data), err)
			}
			if used, _ := s3.GetChecksumValidationMetadata(out.ResultMetadata); !slices.Equal(used.AlgorithmsUsed, []string{"CRC64NVME"}) {
				t.Errorf("verified by %q", used.AlgorithmsUsed)
			}
			if how == "in parts" && out.ChecksumType != types.ChecksumTypeFullObject {
				t.Errorf("the checksum is of type %q", out.ChecksumType)
			}
		})
		t.Run("aws s3api/"+how, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "got")
			cmd := exec.CommandContext(t.Context(), tool(t, "aws"), "s3api", "get-object", "--endpoint-url", on.s3.Endpoint,
				"--checksum-mode", "ENABLED", "--bucket", f.Bucket, "--key", r.ID, path)
			cmd.Env = on.environ()
			out, err := cmd.CombinedOutput()
			got, readErr := os.ReadFile(path)
			if err != nil || readErr != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes of %d, %v, %v: %s", len(got), len(data), err, readErr, out)
			}
			needsCRC64NVME(t, cmd.Path)
			if !strings.Contains(string(out), "ChecksumCRC64NVME") {
				t.Errorf("%s", out)
			}
		})
	}
}

// What others upload under a record's id becomes a file: it can be stored and downloaded, and is
// verified by what S3 holds of it.
func testOthersUpload(t *testing.T, on servers) {
	if testserver.Race {
		t.Skip("the work is done by others")
	}
	small, large := randomBytes(100_000), randomBytes(11*mib)
	type upload func(t *testing.T, f *filestore, id string, data []byte) error
	// S3 and versitygw compute a CRC-64/NVME of what comes without a checksum, MinIO does not. Then
	// the ETag of an object that came whole is its MD5; that of one in parts is of no use.
	ofWhole, ofParts := []string{"CRC64NVME", "MD5"}, []string{"CRC64NVME", ""}
	for _, tt := range []struct {
		name   string
		data   []byte
		upload upload
		want   []string // Verified: one of these
	}{
		{"plain PutObject", small, putPlain, ofWhole},
		{"plain multipart upload", large, putPlainParts, ofParts},
		{"PutObject of the SDK", small, putBySDK, []string{"CRC32"}},
		{"transfer manager, whole", small, putByManager(""), []string{"CRC32"}},
		{"transfer manager, in parts", large, putByManager(""), []string{"CRC32"}},
		{"transfer manager, checksums of parts", large, putByManager(managertypes.ChecksumTypeComposite), []string{"CRC32"}},
		{"s5cmd, whole", small, putByS5cmd, ofWhole},
		{"s5cmd, in parts", large, putByS5cmd, ofParts},
		{"aws s3 cp, whole", small, putByAWS, append(ofWhole, "CRC32")},
		{"aws s3 cp, in parts", large, putByAWS, append(ofParts, "CRC32")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := on.open(t)
			id := f.placeholder(t, 0)
			if err := tt.upload(t, f, id, tt.data); err != nil {
				t.Fatal(err)
			}
			for r := range f.Store(t.Context(), []string{id}) {
				if r.Err != nil || r.Value.Size != int64(len(tt.data)) || r.Value.State() != records.Stored {
					t.Fatalf("%+v, %v", r.Value, r.Err)
				}
			}
			downloads := f.Downloadable(t.Context(), []string{id}, false)
			file, err := os.Create(filepath.Join(t.TempDir(), "got"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			object, err := f.DownloadFile(t.Context(), downloads[0].Value, file, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(file.Name()); err != nil || !bytes.Equal(got, tt.data) {
				t.Errorf("%d bytes of %d: %v", len(got), len(tt.data), err)
			}
			if !slices.Contains(tt.want, object.Verified) {
				t.Errorf("verified by %q, want one of %q", object.Verified, tt.want)
			}
			if object.Verified == "" {
				return
			}
			// And it has compared what it says: a wrong byte is found.
			flip := f.s3Faults.Inject(faultproxy.On(http.MethodGet), faultproxy.Always(), faultproxy.FlipDownload(50_000))
			if _, err := f.Download(t.Context(), downloads[0].Value, io.Discard, nil); err == nil || flip.Hits() == 0 {
				t.Errorf("a flipped byte gave %v, and %d were flipped", err, flip.Hits())
			}
		})
	}
}

// noChecksums is how S3 was spoken before December 2024, and how s5cmd still does.
func noChecksums(o *s3.Options) {
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
}

func putPlain(t *testing.T, f *filestore, id string, data []byte) error {
	_, err := f.sdk(noChecksums).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &f.Bucket, Key: &id, Body: bytes.NewReader(data)})
	return err
}

func putBySDK(t *testing.T, f *filestore, id string, data []byte) error {
	_, err := f.sdk().PutObject(t.Context(), &s3.PutObjectInput{Bucket: &f.Bucket, Key: &id, Body: bytes.NewReader(data)})
	return err
}

func putPlainParts(t *testing.T, f *filestore, id string, data []byte) error {
	api := f.sdk(noChecksums)
	created, err := api.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &f.Bucket, Key: &id})
	if err != nil {
		return err
	}
	var parts []types.CompletedPart
	for chunk := range slices.Chunk(data, 5*mib) {
		number := int32(len(parts) + 1)
		out, err := api.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: &f.Bucket, Key: &id, UploadId: created.UploadId, PartNumber: &number, Body: bytes.NewReader(chunk),
		})
		if err != nil {
			return err
		}
		parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: &number})
	}
	_, err = api.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: &f.Bucket, Key: &id, UploadId: created.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return err
}

// putByManager uploads with the SDK's transfer manager; an empty kind of checksum is its default.
func putByManager(kind managertypes.ChecksumType) func(t *testing.T, f *filestore, id string, data []byte) error {
	return func(t *testing.T, f *filestore, id string, data []byte) error {
		manager := transfermanager.New(f.sdk(), func(o *transfermanager.Options) {
			o.PartSizeBytes, o.MultipartUploadThreshold = 5*mib, 5*mib
		})
		_, err := manager.UploadObject(t.Context(), &transfermanager.UploadObjectInput{
			Bucket: &f.Bucket, Key: &id, Body: bytes.NewReader(data), ChecksumType: kind,
		})
		return err
	}
}

func putByS5cmd(t *testing.T, f *filestore, id string, data []byte) error {
	return f.run(t, tool(t, "s5cmd"), "--endpoint-url", f.s3.Endpoint, "cp", "--part-size", "5", tempFile(t, data).Name(), "s3://"+f.Bucket+"/"+id)
}

func putByAWS(t *testing.T, f *filestore, id string, data []byte) error {
	return f.run(t, tool(t, "aws"), "s3", "cp", "--quiet", "--endpoint-url", f.s3.Endpoint, tempFile(t, data).Name(), "s3://"+f.Bucket+"/"+id)
}

func (f *filestore) run(t *testing.T, program string, args ...string) error {
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = f.environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
