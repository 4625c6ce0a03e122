package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/presign"
)

type infoOptions struct {
	args      []string
	deleted   bool
	nonStored bool
	expires   duration
	checksum  bool
}

func newInfoCmd(a *app) *cobra.Command {
	opts := &infoOptions{}
	cmd := &cobra.Command{
		Use:   "info ID...",
		Short: "Show files and the URLs to download them",
		Long: `Show the records of files. Stored files come with a URL through which anybody can
download them, and with the time at which that URL ends.

Without flags only stored files are shown. The order is that of the ids; an id that is given
twice is shown once. With "-" ids are read from standard input, one a line.

With --checksum the checksum that S3 holds of each file is shown too. Each object is asked for
then, so that one that is missing, or has another size than the record says, is an error.`,
		Example: `  filestore info 3p1xk0s9d2mfa7qz
  filestore info --nonstored --deleted --json - < ids
  filestore info --checksum 3p1xk0s9d2mfa7qz
  curl -OJ "$(filestore info --expires 10m --json 3p1xk0s9d2mfa7qz | jq -r .url)"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.args = args
			return runInfo(cmd.Context(), a, opts)
		},
	}
	cmd.Flags().BoolVar(&opts.deleted, "deleted", false, "show deleted files too")
	cmd.Flags().BoolVar(&opts.nonStored, "nonstored", false, "show files that are not stored too")
	cmd.Flags().Var(&opts.expires, "expires", "lifetime of the URLs, 1s to 7d (default: --url-expiration)")
	cmd.Flags().BoolVar(&opts.checksum, "checksum", false, "show the checksums that S3 holds, and fail for objects that are missing")
	return cmd
}

func runInfo(ctx context.Context, a *app, opts *infoOptions) (err error) {
	lifetime, err := a.lifetime(opts.expires)
	if err != nil {
		return err
	}
	fs, ids, err := a.openWithIDs(ctx, opts.args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.close()) }()

	columns := []string{"ID", "NAME", "SIZE", "TYPE", "STATE", "UPLOADED", "STORED", "DELETED", "META", "URL EXPIRES", "URL"}
	if opts.checksum {
		columns = append(columns, "CHECKSUM")
	}
	a.out.columns(columns...)
	var t tally
	urls := false
	for r := range fs.Info(ctx, ids, client.InfoOptions{
		Deleted: opts.deleted, NonStored: opts.nonStored, Expires: lifetime, Checksum: opts.checksum,
	}) {
		if r.Err != nil {
			t.fail(r.Err)
			a.out.fail(r.ID, "", r.Err)
			continue
		}
		t.ok()
		f := r.Value
		urls = urls || f.URL.URL != ""
		if bad := f.Malformed(); bad != nil {
			a.warn(subject{id: r.ID}, "the record is malformed: %v", bad)
		}
		line := result{
			id: r.ID,
			cells: []cell{
				text(r.ID), text(f.Name), size(f.Size), text(f.Type), text(string(f.State())),
				stamp(f.UploadedAt), stamp(f.StoredAt), stamp(f.DeletedAt), text(f.Meta),
				moment(f.URL.Expires), text(f.URL.URL),
			},
			json: newFileJSON(f.Record).withURL(f.URL).withChecksum(f.Checksum),
		}
		if opts.checksum {
			line.cells = append(line.cells, checksum(f.Checksum))
		}
		a.out.add(line)
	}
	if urls {
		a.noteUnserved(fs)
	}
	return t.result()
}

// lifetime checks the lifetime of URLs that a command was asked for; 0 stands for the setting.
func (a *app) lifetime(d duration) (time.Duration, error) {
	if a.flags.changed("expires") && (time.Duration(d) < presign.MinLifetime || time.Duration(d) > presign.MaxLifetime) {
		return 0, usagef("", "--expires must be from 1s to 7d")
	}
	return time.Duration(d), nil
}

// noteUnserved tells that the URLs of a local store need somebody to serve them.
func (a *app) noteUnserved(fs *filestore) {
	if fs.local != nil && !fs.local.Served() {
		a.note(`the URL works while "filestore serve --local" runs`)
	}
}
