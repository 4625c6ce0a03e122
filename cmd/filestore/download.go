package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/filename"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

type downloadOptions struct {
	transferOptions
	args      []string
	dir       string
	output    string
	force     bool
	nonStored bool
	resume    bool
}

func newDownloadCmd(a *app) *cobra.Command {
	opts := &downloadOptions{}
	cmd := &cobra.Command{
		Use:   "download ID...",
		Short: "Download files",
		Long: `Download files into a directory, under their names made safe: no path, nothing hidden, no
control characters. Two files with one name get distinct ones. Each is written to a
temporary file, verified against its size and the checksum that S3 holds, and only then
renamed. Nothing is overwritten without --force.

With --resume a download that does not end keeps what it has got, and the same command goes
on from there, also after the program was killed.

With "-" as an ID, ids are read from standard input, one a line.`,
		Example: `  filestore download 3p1xk0s9d2mfa7qz
  filestore download -d incoming - < ids
  filestore download -o - 3p1xk0s9d2mfa7qz | tar xz`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.args = args
			return runDownload(cmd.Context(), a, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&opts.dir, "dir", "d", ".", "put the files into `DIR`; it is made where it is missing")
	flags.StringVarP(&opts.output, "output", "o", "", "write one file to `PATH`; - is standard output")
	flags.BoolVar(&opts.force, "force", false, "overwrite what is there")
	flags.BoolVar(&opts.nonStored, "nonstored", false, "temporary files too")
	flags.BoolVar(&opts.resume, "resume", false, "keep a large file that is not finished, and go on with it")
	cmd.MarkFlagsMutuallyExclusive("dir", "output")
	opts.register(cmd)
	return cmd
}

// existsError says that a download would overwrite something.
type existsError struct{ path string }

func (e *existsError) Error() string { return fmt.Sprintf("%q exists already", e.path) }

// target is where one file goes.
type target struct {
	record records.Record
	name   string // in the directory
	err    error
}

func runDownload(ctx context.Context, a *app, opts *downloadOptions) (err error) {
	if err := opts.check(a); err != nil {
		return err
	}
	ids, err := a.readIDs(ctx, opts.args)
	if err != nil {
		return err
	}
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	if err := opts.apply(a, store.Transfer); err != nil {
		return err
	}

	a.expect(len(ids), 0)
	files := store.Downloadable(ctx, ids, opts.nonStored)
	if opts.output != "" && len(files) != 1 {
		return usagef("-d DIR takes several", "--output is for a single file")
	}
	total := int64(0)
	for _, f := range files {
		total += max(f.Value.Size, 0)
	}
	a.expect(len(files), total)
	d := &downloads{app: a, client: store.Client, force: opts.force}
	what := "downloading"
	if len(files) == 1 {
		what += " " + printable(files[0].Value.Name)
	}
	if d.bar = a.noProgress(); opts.output != "-" || !a.stdoutTTY { // there the content itself is shown
		d.bar = a.startProgress(ctx, what, total, len(files))
	}
	defer d.bar.end()
	a.out.columns("ID", "NAME", "SIZE", "VERIFIED", "PATH")

	if opts.output != "" {
		if file := files[0]; file.Err != nil {
			return d.reportOne(downloaded{target: target{record: records.Record{ID: file.ID}}, path: opts.output, err: file.Err})
		}
		if out := d.stream(opts.output); out != nil {
			if opts.resume {
				return errStreamResumed()
			}
			return d.toStream(ctx, files[0].Value, opts.output, out)
		}
		d.dir = filepath.Dir(opts.output)
	} else {
		d.dir = opts.dir
		if err := os.MkdirAll(d.dir, 0o777); err != nil {
			return err
		}
	}
	if d.root, err = os.OpenRoot(d.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.root.Close()) }()
	if opts.resume {
		if d.resume, err = newResumption(a, store.identity, d.dir); err != nil {
			return err
		}
	}

	return d.report(client.InOrderWithin(ctx, d.targets(files, opts.output), store.Transfer.FilesAtOnce(), store.Transfer.DownloadsNow, d.one))
}

func (o *downloadOptions) check(a *app) error {
	if o.output == "-" && o.resume {
		return errStreamResumed()
	}
	if !a.flags.changed("output") || o.output == "-" {
		return nil
	}
	const hint = "-d DIR puts the file into a directory, under its own name"
	if o.output == "" {
		return usagef(hint, "--output is empty")
	}
	last := o.output[len(o.output)-1]
	if base := filepath.Base(o.output); os.IsPathSeparator(last) || base == "." || base == ".." {
		return usagef(hint, "%q is a directory", o.output)
	}
	return nil
}

// downloads is one run of the command.
type downloads struct {
	app    *app
	client *client.Client
	force  bool
	bar    *progress
	dir    string   // as the user named it
	root   *os.Root // of dir: no name can lead out of it

	resume *resumption // nil without --resume
}

type downloaded struct {
	target
	path   string
	object transfer.Object
	err    error
}

// targets gives every file a name of its own before the first is written, so that the names do
// not depend on which download ends first.
func (d *downloads) targets(files []client.Result[records.Record], output string) []target {
	targets := make([]target, len(files))
	taken := make(map[string]bool, len(files))
	take := func(t *target, name string) {
		if !taken[filename.Fold(name)] {
			taken[filename.Fold(name)] = true
			t.name = name
		}
	}
	// First all who can have their own name get it: nobody else's second choice may be that name.
	for i, f := range files {
		t := &targets[i]
		t.record, t.err = f.Value, f.Err
		t.record.ID = f.ID
		switch {
		case f.Err != nil:
		case output != "":
			t.name = filepath.Base(output)
		default:
			take(t, filename.Safe(f.Value.Name, f.ID))
		}
	}
	for i := range targets {
		t := &targets[i]
		for n := 1; t.err == nil && t.name == ""; n++ {
			suffix := t.record.ID
			if n > 1 {
				suffix = fmt.Sprintf("%s-%d", t.record.ID, n)
			}
			take(t, filename.Distinct(filename.Safe(t.record.Name, t.record.ID), suffix))
		}
	}
	return targets
}

func (d *downloads) one(ctx context.Context, t target) downloaded {
	defer d.bar.fileEnded()
	if t.err != nil {
		return downloaded{target: t, err: t.err}
	}
	get := d.toFile
	if d.resume != nil {
		get = d.resumeFile
	}
	object, err := get(ctx, t)
	return downloaded{target: t, path: filepath.Join(d.dir, t.name), object: object, err: err}
}

// toFile downloads to a temporary file beside the target, and gives it its name only when every
// byte is verified. Whatever goes wrong, the temporary file is removed.
func (d *downloads) toFile(ctx context.Context, t target) (_ transfer.Object, err error) {
	if err := d.mayWrite(t.name); err != nil {
		return transfer.Object{}, err
	}
	temporary := ".filestore-" + t.record.ID + "-" + rand.Text()[:8] + ".part"
	f, err := d.root.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return transfer.Object{}, err
	}
	renamed := false
	defer func() {
		if !renamed {
			err = errors.Join(err, d.root.Remove(temporary))
		}
	}()
	object, err := d.fill(ctx, f, t.record)
	if err != nil {
		return transfer.Object{}, err
	}
	if err := d.rename(temporary, t.name); err != nil {
		return transfer.Object{}, err
	}
	renamed = true
	return object, nil
}

// fill writes the content and closes f. While it is incomplete nobody else may read it; then it
// gets the mode that the user's umask gives to new files.
func (d *downloads) fill(ctx context.Context, f *os.File, r records.Record) (_ transfer.Object, err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return transfer.Object{}, err
	}
	if err := f.Chmod(0o600); err != nil {
		return transfer.Object{}, err
	}
	object, err := d.client.DownloadFile(ctx, r, f, d.bar.add)
	if err != nil {
		return transfer.Object{}, err
	}
	return object, f.Chmod(info.Mode().Perm())
}

// mayWrite fails where something has the name already.
func (d *downloads) mayWrite(name string) error {
	info, err := d.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return usagef("-d DIR puts the file into a directory", "%q is a directory", filepath.Join(d.dir, name))
	case !d.force:
		return &existsError{filepath.Join(d.dir, name)}
	}
	return nil
}

// rename gives the finished file its name. Without --force a link does, since it fails where a
// rename would replace what came there meanwhile; file systems without links have to do with
// one more look.
func (d *downloads) rename(temporary, name string) error {
	if d.force {
		return d.root.Rename(temporary, name)
	}
	err := d.root.Link(temporary, name)
	switch {
	case err == nil:
		return d.root.Remove(temporary)
	case errors.Is(err, fs.ErrExist):
		return &existsError{filepath.Join(d.dir, name)}
	}
	if err := d.mayWrite(name); err != nil {
		return err
	}
	return d.root.Rename(temporary, name)
}

// stream returns what --output names where that is no file to be created: standard output, a
// device or a pipe. It is nil for a path.
func (d *downloads) stream(output string) func() (io.WriteCloser, error) {
	if output == "-" {
		return func() (io.WriteCloser, error) {
			if d.app.stdoutTTY {
				return nopCloser{&textOnly{w: d.app.stdout}}, nil
			}
			return nopCloser{d.app.stdout}, nil
		}
	}
	info, err := os.Stat(output)
	if err != nil || info.Mode().IsRegular() || info.IsDir() {
		return nil
	}
	return func() (io.WriteCloser, error) { return os.OpenFile(output, os.O_WRONLY, 0) }
}

// opened opens a stream, or gives up when ctx ends: a pipe without a reader has its writer wait.
// That call is left behind: the process is about to end.
func opened(ctx context.Context, open func() (io.WriteCloser, error)) (io.WriteCloser, error) {
	type result struct {
		w   io.WriteCloser
		err error
	}
	done := make(chan result, 1)
	go func() {
		w, err := open()
		done <- result{w, err}
	}()
	select {
	case r := <-done:
		return r.w, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// toStream writes one file to a stream. What was written can't be taken back: only the exit
// status tells that it is right. Nothing else goes to standard output.
func (d *downloads) toStream(ctx context.Context, r records.Record, output string, open func() (io.WriteCloser, error)) error {
	w, err := opened(ctx, open)
	if err != nil {
		return err
	}
	object, err := d.client.Download(ctx, r, &patientWriter{ctx: ctx, w: w}, d.bar.add)
	err = errors.Join(err, w.Close())
	return d.reportOne(downloaded{target: target{record: r}, path: output, object: object, err: err})
}

// errBinary says that something that is no text was about to be written to a terminal.
var errBinary = errors.New("is binary: not written to a terminal")

// textOnly refuses to write what would upset a terminal. It looks at the first write.
type textOnly struct {
	w      io.Writer
	looked bool
}

func (t *textOnly) Write(p []byte) (int, error) {
	if !t.looked {
		t.looked = true
		for _, b := range p[:min(len(p), 4096)] {
			if b < ' ' && b != '\n' && b != '\r' && b != '\t' || b == 0x7f {
				return 0, usagef("-o FILE writes it to a file", "%w", errBinary)
			}
		}
	}
	return t.w.Write(p)
}

func (d *downloads) reportOne(r downloaded) error {
	return d.report(func(yield func(downloaded) bool) { yield(r) })
}

// report prints what became of the files, each as soon as it and all before it are done. Where
// the content goes to standard output, nothing else does.
func (d *downloads) report(results iter.Seq[downloaded]) error {
	var t tally
	for r := range results {
		toStdout := r.path == "-"
		switch {
		case r.err != nil && toStdout:
			t.fail(r.err)
			d.app.failItem(subject{id: r.record.ID}, r.err)
			continue
		case r.err != nil:
			t.fail(r.err)
			d.app.out.fail(r.record.ID, "", r.err)
			continue
		}
		t.ok()
		if r.object.Verified == "" {
			d.app.warn(subject{id: r.record.ID}, "the server holds no checksum; only the size was compared")
		}
		if toStdout {
			continue
		}
		f := newFileJSON(r.record)
		f.Path, f.Verified = r.path, r.object.Verified
		d.app.out.add(result{
			id:    r.record.ID,
			cells: []cell{text(r.record.ID), text(r.record.Name), size(r.object.Size), text(r.object.Verified), text(r.path)},
			json:  f,
		})
	}
	return t.result()
}
