//go:build linux || darwin || freebsd

package soak

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/local"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/records/sqlite"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// place is a filestore to work on, and another one that is copied to.
type place struct {
	// env has the program work on it, with all that goes wrong on the way.
	env []string
	// copyTo are the flags that name the other one, and other the environment in which it is the one that is
	// worked on.
	copyTo, other []string
	fronts        []*front
	// directory is that of a local store.
	directory string
	// open and openOther open both in this process, past the faults. The clock is that of the client.
	open, openOther func(t testing.TB, now func() time.Time) *client.Client
}

// localPlace is two local stores.
func localPlace(t *testing.T, program string, _ uint64) place {
	dir, other := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "other")
	env := []string{"PATH=" + os.Getenv("PATH")}
	opener := func(dir string) func(testing.TB, func() time.Time) *client.Client {
		return func(t testing.TB, now func() time.Time) *client.Client { return openLocal(t, program, dir, now) }
	}
	return place{
		env: append(env, "FILESTORE_LOCAL="+dir), other: append(env, "FILESTORE_LOCAL="+other), copyTo: []string{"--to-local=" + other},
		directory: dir, open: opener(dir), openOther: opener(other),
	}
}

func openLocal(t testing.TB, program, dir string, now func() time.Time) *client.Client {
	t.Helper()
	store, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	store.Executable = program
	table, err := sqlite.Open(t.Context(), store.Records())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(table.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	key := store.Credentials()
	return newClient(client.NewS3(aws.Config{
		Region: local.Region, HTTPClient: client.HTTPClient(time.Minute, store.Dial),
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, ""),
	}, func(o *s3.Options) { o.BaseEndpoint = aws.String(store.PublicURL()) }), local.Bucket, table, now)
}

func newClient(api *s3.Client, bucket string, table records.Table, now func() time.Time) *client.Client {
	return &client.Client{
		S3: api, Bucket: bucket, Records: table, Transfer: &transfer.Engine{S3: api, Bucket: bucket},
		Signer:   func(context.Context) (presign.Signer, error) { return presign.Signer{}, presign.ErrNoCredentials },
		Settings: client.Settings{URLLifetime: client.DefaultURLLifetime, TemporaryLifetime: client.DefaultTemporaryLifetime},
		Now:      now, NewID: client.NewID,
	}
}

// minioPlace is two buckets of a MinIO and two tables of a dynalite, with a front before each server.
func minioPlace(t *testing.T, program string, seed uint64) place {
	server, dynamoDB := testserver.MinIO(t), testserver.Dynalite(t)
	fronts := []*front{newFront(t, server.Endpoint, seed), newFront(t, dynamoDB, seed+1)}
	env := func(s3, dynamoDB, bucket, table string) []string {
		return []string{
			"PATH=" + os.Getenv("PATH"), "AWS_EC2_METADATA_DISABLED=true",
			"AWS_ACCESS_KEY_ID=" + server.AccessKey, "AWS_SECRET_ACCESS_KEY=" + server.SecretKey, "AWS_REGION=" + server.Region,
			"AWS_ENDPOINT_URL_S3=" + s3, "AWS_ENDPOINT_URL_DYNAMODB=" + dynamoDB,
			"FILESTORE_BUCKET=" + bucket, "FILESTORE_TABLE=" + table,
		}
	}
	opener := func(bucket, table string) func(testing.TB, func() time.Time) *client.Client {
		return func(_ testing.TB, now func() time.Time) *client.Client {
			api := client.NewS3(aws.Config{
				Region: server.Region, Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
			}, func(o *s3.Options) { o.BaseEndpoint = &server.Endpoint })
			return newClient(api, bucket, dynamo.New(testserver.DynamoDB(dynamoDB), table), now)
		}
	}
	r := &runner{program: program, counts: newFigures(), usual: make(map[string]time.Duration)}
	for _, name := range []string{"files", "other"} {
		r.env = env(server.Endpoint, dynamoDB, name, name)
		if o := r.run(t, t.TempDir(), plan{}, nil, "init", "--index", "--json"); o.status != 0 {
			t.Fatal(o)
		}
	}
	return place{
		env: env(fronts[0].url, fronts[1].url, "files", "files"), copyTo: []string{"--to-bucket=other", "--to-table=other"},
		other: env(fronts[0].url, fronts[1].url, "other", "other"), fronts: fronts,
		open: opener("files", "files"), openOther: opener("other", "other"),
	}
}
