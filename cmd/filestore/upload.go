package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/mimetype"
	"github.com/designfultech/filestore/internal/records"
)

type uploadOptions struct {
	transferOptions
	paths     []string
	name      string
	mimeType  string
	meta      []string
	store     bool
	recursive bool
	key       string
	renew     bool
	resume    bool
}

func newUploadCmd(a *app) *cobra.Command {
	opts := &uploadOptions{}
	cmd := &cobra.Command{
		Use:   "upload PATH...",
		Short: "Upload files",
		Long: `Upload files. They are temporary until "store" makes them permanent; --store does so at
once.

An upload that fails or is interrupted leaves nothing behind. Where one of several files
fails, the others still go. With "-" the content is read from standard input. The type is
taken from the extension, else from the first bytes.

With --idempotency-key, for one file at a time, an upload can be said again: the same key and
content give the same id, on every machine, and what is there is not sent again. The same key
with other content is a conflict (exit status 6). Where the file has expired or was deleted,
that is said (4), and --renew makes a new one. Name, type and metadata stay those of the first
run, and a temporary file does not live longer for it: --store keeps it.

With --resume, what was sent of a large file is kept instead, and the next --resume of the
same path goes on with it: also after a kill, a lost network or a restart, and also where
the killed upload was without --resume. Name, type and metadata are then those of the
first try. If nobody goes on for as long as a placeholder lives (--url-expiration and
--temporary-lifetime together), a sweep removes it. "filestore uploads" lists what is half
done.`,
		Example: `  filestore upload report.pdf
  filestore upload --store --meta branch=main --meta commit=4f2a91c dist/*.tar.gz
  filestore upload --store --idempotency-key "$CI_COMMIT_SHA-app.tar.gz" app.tar.gz
  filestore upload -r photos
  filestore upload --resume backup.tar
  pg_dump shop | gzip | filestore upload --name shop.sql.gz -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.paths = args
			return runUpload(cmd.Context(), a, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.name, "name", "", "name of the file (default: the last element of its path)")
	flags.StringVar(&opts.mimeType, "type", "", "MIME type")
	flags.StringArrayVar(&opts.meta, "meta", nil, "metadata as `key=value`; may be repeated")
	flags.BoolVar(&opts.store, "store", false, "store at once")
	flags.BoolVarP(&opts.recursive, "recursive", "r", false, "upload what is in directories; the path goes into meta.path")
	flags.StringVar(&opts.key, "idempotency-key", "", "the same `key` and content give the same file, however often it is said")
	flags.BoolVar(&opts.renew, "renew", false, "make a new file where that of the key has expired or was deleted")
	flags.BoolVar(&opts.resume, "resume", false, "go on with an upload that broke off, and keep what is sent of one that fails")
	cmd.MarkFlagsMutuallyExclusive("resume", "idempotency-key")
	opts.register(cmd)
	return cmd
}

// source is one file to be uploaded.
type source struct {
	path  string // as errors name it
	name  string // of the file in the filestore
	meta  map[string]string
	size  int64 // bytes; -1: not known
	stdin bool
	err   error // why it can't be uploaded
	link  bool  // to a directory: passed over, and said so
}

func runUpload(ctx context.Context, a *app, opts *uploadOptions) (err error) {
	meta, err := opts.check(a)
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
	journals, err := a.newJournals(store, opts.resume)
	if err != nil {
		return err
	}

	sources := slices.DeleteFunc(opts.sources(meta), func(s source) bool {
		if s.link {
			a.warn(subject{path: s.path}, "a link to a directory is not followed")
		}
		return s.link
	})
	if opts.name != "" && len(sources) > 1 {
		return usagef("", "--name is for a single file, and %d match", len(sources))
	}
	if opts.key != "" && len(sources) > 1 {
		return usagef(keyLoop, "--idempotency-key is for a single file, and %d match", len(sources))
	}
	if opts.resume {
		refuseTwice(sources)
	}
	total, what := int64(0), "uploading"
	if len(sources) == 1 {
		what = "uploading " + printable(sources[0].name)
	}
	for _, s := range sources {
		if s.size < 0 {
			total = -1
			break
		}
		total += s.size
	}
	a.expect(len(sources), total)
	bar := a.startProgress(ctx, what, total, len(sources))
	defer bar.end()

	a.out.columns("ID", "NAME", "SIZE", "TYPE", "STATE")
	var t tally
	temporary := false
	for r := range client.InOrderWithin(ctx, sources, store.Transfer.FilesAtOnce(), store.Transfer.UploadsNow, func(ctx context.Context, s source) uploaded {
		defer bar.fileEnded()
		u, err := uploadOne(ctx, a, store.Client, journals, s, opts, bar)
		u.source, u.err = s, err
		return u
	}) {
		if r.err != nil {
			t.fail(r.err)
			a.out.fail(opts.idOf(r.err), r.source.path, r.err)
			continue
		}
		t.ok()
		a.noteExisting(r)
		temporary = temporary || r.State() == records.Temporary && !r.Existing
		f := newFileJSON(r.Record)
		f.Path, f.Existing = r.source.path, r.Existing
		a.out.add(result{
			id:    r.ID,
			cells: []cell{text(r.ID), text(r.Name), size(r.Size), text(r.Type), text(string(r.State()))},
			json:  f,
			written: func() {
				if r.journaled {
					journals.forget(r.source.path, r.ID)
				}
			},
		})
	}
	bar.end()
	if temporary {
		a.note(`temporary files are removed after %s; "filestore store ID" keeps them`, shortDuration(store.Settings.TemporaryLifetime))
	}
	return t.result()
}

type uploaded struct {
	client.Idempotent // of an upload without a key, Record alone

	source    source
	journaled bool // it is remembered, until its id was printed
	err       error
}

// noteExisting tells what the result of an idempotent upload does not show: that nothing was sent,
// and what the file has otherwise than was asked for.
func (a *app) noteExisting(u uploaded) {
	if u.Existing {
		a.note("%q is there already, and nothing was sent", u.ID)
	}
	if u.Differs != nil {
		a.say(message{kind: "warning", attrs: []slog.Attr{slog.String("id", u.ID)},
			text: fmt.Sprintf("%q keeps its own %s: another run made it", u.ID, strings.Join(u.Differs, ", "))})
	}
}

// idOf returns the id of the file that a failed upload found by its key, "" without a key.
func (o *uploadOptions) idOf(err error) string {
	if file, ok := errors.AsType[*client.FileError](err); ok && o.key != "" {
		return file.ID
	}
	return ""
}

// keyLoop is how several files are uploaded with a key each.
const keyLoop = `for f in FILES; do filestore upload --idempotency-key "$KEY-$f" "$f"; done`

// checkKey looks at the flags of idempotent uploads.
func (o *uploadOptions) checkKey(a *app) error {
	switch {
	case !a.flags.changed("idempotency-key"):
		if o.renew {
			return usagef("--idempotency-key KEY", "--renew needs an idempotency key")
		}
	case o.key == "":
		return usagef("", "--idempotency-key is empty")
	case len(o.key) > client.MaxIdempotencyKey:
		return usagef("", "--idempotency-key has %d bytes, and at most %d are allowed", len(o.key), client.MaxIdempotencyKey)
	case len(o.paths) > 1 || o.recursive:
		return usagef(keyLoop, "--idempotency-key is for a single file")
	case o.paths[0] == "-":
		return usagef("write it to a file first", "--idempotency-key needs a file: standard input can't be read twice")
	}
	return nil
}

// check looks at the flags and returns the metadata.
func (o *uploadOptions) check(a *app) (map[string]string, error) {
	if len(o.paths) == 0 {
		return nil, usagef(`"-" reads from standard input`, "no file is given")
	}
	if err := o.checkKey(a); err != nil {
		return nil, err
	}
	named := a.flags.changed("name")
	if named && o.name == "" {
		return nil, usagef("", "--name is empty")
	}
	if named && (len(o.paths) > 1 || o.recursive) {
		return nil, usagef("", "--name is for a single file")
	}
	for i, path := range o.paths {
		if path != "-" {
			continue
		}
		if o.resume {
			return nil, usagef("upload a file instead, or leave --resume away", "standard input can't be read again: --resume is for files")
		}
		if !named && len(o.paths) == 1 {
			return nil, usagef("--name NAME", "standard input has no name")
		}
		if len(o.paths) > 1 {
			return nil, usagef("upload it by itself, with --name", `"-" is argument %d of several`, i+1)
		}
	}
	if o.mimeType != "" {
		if base, _, err := mime.ParseMediaType(o.mimeType); err != nil || !strings.Contains(base, "/") {
			return nil, usagef("such as application/pdf", "--type %q is not a MIME type", o.mimeType)
		}
	}
	return parseMeta(o.meta)
}

// parseMeta reads the values of --meta.
func parseMeta(flags []string) (map[string]string, error) {
	meta := make(map[string]string, len(flags))
	for _, m := range flags {
		key, value, ok := strings.Cut(m, "=")
		if !ok || key == "" {
			return nil, usagef("--meta key=value", "--meta %q is not of the form key=value", m)
		}
		if _, twice := meta[key]; twice {
			return nil, usagef("", "--meta %q is given twice", key)
		}
		meta[key] = value
	}
	return meta, nil
}

// sources finds the files. What can't be found or read becomes a source with an error, so that
// the others still go.
func (o *uploadOptions) sources(meta map[string]string) []source {
	var out []source
	for _, path := range o.paths {
		if path == "-" {
			out = append(out, source{path: path, name: o.name, meta: meta, size: -1, stdin: true})
			continue
		}
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(path, "*?[") {
			// The shell passes a pattern that matches nothing as it is; some shells expand none.
			matches, globErr := filepath.Glob(path)
			if globErr != nil || len(matches) == 0 {
				out = append(out, source{path: path, err: usagef("", "no file matches")})
				continue
			}
			for _, match := range matches {
				info, err := os.Stat(match)
				out = append(out, o.found(match, info, err, meta)...)
			}
			continue
		}
		out = append(out, o.found(path, info, err, meta)...)
	}
	return out
}

func (o *uploadOptions) found(path string, info fs.FileInfo, err error, meta map[string]string) []source {
	switch {
	case err != nil:
		return []source{{path: path, err: unreadable(err)}}
	case info.IsDir() && o.key != "":
		return []source{{path: path, err: usagef(keyLoop, "is a directory, and --idempotency-key is for a single file")}}
	case info.IsDir() && !o.recursive:
		return []source{{path: path, err: usagef("-r uploads the files in directories", "is a directory")}}
	case info.IsDir():
		return o.walk(path, meta)
	}
	name := o.name
	if name == "" {
		name = filepath.Base(path)
	}
	return []source{newSource(path, name, info, meta)}
}

func newSource(path, name string, info fs.FileInfo, meta map[string]string) source {
	s := source{path: path, name: strings.ToValidUTF8(name, "\uFFFD"), meta: meta, size: info.Size()}
	if !info.Mode().IsRegular() {
		s.err = usagef(`"upload --name NAME -" reads a stream`, "is not a regular file")
	}
	return s
}

// walk finds the files below a directory. Links to files are followed, links to directories are
// not: they could lead in circles.
func (o *uploadOptions) walk(dir string, meta map[string]string) []source {
	var out []source
	// The function never fails: what can't be read becomes a source with an error, and its
	// siblings go on.
	// With a separator at its end, a link to a directory is that directory.
	_ = filepath.WalkDir(dir+string(filepath.Separator), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			return nil
		}
		var info fs.FileInfo
		if err == nil {
			info, err = os.Stat(path)
		}
		switch {
		case err != nil:
			out = append(out, source{path: path, err: unreadable(err)})
		case info.IsDir():
			out = append(out, source{path: path, link: true})
		default:
			out = append(out, newSource(path, filepath.Base(path), info, withPath(dir, path, meta)))
		}
		return nil
	})
	if !slices.ContainsFunc(out, func(s source) bool { return !s.link }) {
		out = append(out, source{path: dir, err: usagef("", "no file is in this directory")})
	}
	return out
}

// unreadable is why a file can't be read. The path is left away: the message names it already.
// A path that leads nowhere is a mistake in the request.
func unreadable(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &usageError{err: err}
	}
	return err
}

// withPath returns meta with the path below dir in it, unless the user gave another.
func withPath(dir, path string, meta map[string]string) map[string]string {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		rel = path
	}
	own := map[string]string{"path": strings.ToValidUTF8(filepath.ToSlash(rel), "\uFFFD")}
	maps.Copy(own, meta)
	return own
}

func uploadOne(ctx context.Context, a *app, c *client.Client, journals *journals, s source, opts *uploadOptions, bar *progress) (u uploaded, err error) {
	if s.err != nil {
		return u, s.err
	}
	if err := ctx.Err(); err != nil {
		return u, err
	}
	req := client.UploadRequest{
		Name: s.name, Type: opts.mimeType, Meta: s.meta, Store: opts.store, Progress: bar.add,
	}
	if s.stdin {
		head, rest, err := peek(interruptible(ctx, a.stdin))
		if err != nil {
			return u, fmt.Errorf("read standard input: %w", err)
		}
		req.Stream = rest
		if req.Type == "" {
			req.Type = mimetype.Of(s.name, head)
		}
		u.Record, err = c.Upload(ctx, req)
		return u, err
	}
	f, err := os.Open(s.path)
	if err != nil {
		return u, unreadable(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	req.File = f
	if req.Type == "" {
		req.Type, _ = mimetype.ByName(s.name)
	}
	if req.Type == "" { // only then is the content looked at
		var head [512]byte
		n, err := f.ReadAt(head[:], 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return u, err
		}
		req.Type = mimetype.Sniff(head[:n])
	}
	if opts.key != "" {
		u.Idempotent, err = c.UploadIdempotent(ctx, req, opts.key, opts.renew)
		return u, err
	}
	journal, err := journals.of(s.path, f, c.Transfer)
	if err != nil {
		return u, err
	}
	if journal == nil {
		u.Record, err = c.Upload(ctx, req)
		return u, err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	req.Journal, req.Resume = journal, opts.resume
	about := subject{path: s.path}
	req.Resumed = func(partSize, there int64) {
		if chosen := int64(opts.partSize); chosen != 0 && chosen != partSize {
			a.remark(about, "goes on in parts of %s, as it was begun", iecSize(partSize))
		}
		a.note("%q: %s are there already", s.path, iecSize(there))
	}
	req.Anew = func(why error) { a.remark(about, "begins anew: %s", describe(why)) }
	u.Record, err = c.Upload(ctx, req)
	if kept, ok := errors.AsType[*client.KeptError](err); ok {
		err = &resumableError{KeptError: kept, path: s.path}
	}
	u.journaled = true
	return u, err
}

// peek returns the first bytes of r, and a reader that begins with them.
func peek(r io.Reader) (head []byte, rest io.Reader, err error) {
	head = make([]byte, 512)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, err
	}
	head = head[:n]
	return head, io.MultiReader(strings.NewReader(string(head)), r), nil
}
