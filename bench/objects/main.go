// Command objects uploads the files of a directory with the transfer engine of filestore and
// without records: what is left of "filestore upload -r" when the table is taken away.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
	_ "github.com/designfultech/filestore/internal/gcpercent" // as in the program
	"github.com/designfultech/filestore/internal/hugepages"
	"github.com/designfultech/filestore/internal/transfer"
)

func main() {
	endpoint := flag.String("endpoint", "", "base `URL` of the server")
	bucket := flag.String("bucket", "bench", "`name`")
	flag.Parse()
	if err := run(context.Background(), *endpoint, *bucket, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "objects:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, endpoint, bucket, dir string) error {
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithHTTPClient(client.HTTPClient(client.DefaultStallTimeout, nil)),
		config.WithRetryer(client.NewRetryer))
	if err != nil {
		return err
	}
	engine := &transfer.Engine{
		S3:     client.NewS3(cfg, func(o *s3.Options) { o.BaseEndpoint = &endpoint }),
		Bucket: bucket,
	}
	var paths []string
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	hugepages.Reserve() // as in the program
	upload := func(ctx context.Context, path string) error { return upload(ctx, engine, path) }
	for failure := range client.InOrderWithin(ctx, paths, engine.FilesAtOnce(), engine.UploadsNow, upload) {
		err = errors.Join(err, failure)
	}
	return err
}

func upload(ctx context.Context, engine *transfer.Engine, path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = engine.UploadFile(ctx, client.NewID(), "application/octet-stream", f, nil)
	return err
}
