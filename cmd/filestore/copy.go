package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

type copyOptions struct {
	args     []string
	to       destinationFlags
	states   stateList
	dryRun   bool
	audit    string
	transfer transferOptions
	scan     scanFlags
}

func newCopyCmd(a *app) *cobra.Command {
	opts := &copyOptions{}
	cmd := &cobra.Command{
		Use:   "copy [ID...]",
		Short: "Copy files to another filestore",
		Long: `Copy files to another filestore, with all that they have: id, name, type, metadata, times
and content. The filestore that the other commands work on is the source; --to-bucket or
--to-local names the destination, and what else is not said of it is as at the source. With
--to-profile, nothing of the source's --profile, --region and --endpoint-url holds there.

Without ids all files are copied: temporary and stored ones, and the records of deleted
ones. With "-" ids are read from standard input, one a line. Placeholders are not copied,
since their uploads are under way.

Saying it again does nothing for what is there already, and goes on where a copy was
killed. What was stored or deleted at the source since is brought forward: a file that was
deleted there is deleted at the destination too, unless --state leaves deleted files out.
What was stored or deleted at the destination is left alone, and reported; another file
under the same id is a conflict. Nothing is overwritten.`,
		Example: `  filestore --local copy --to-bucket my-files
  filestore --bucket my-files copy --to-bucket my-backup --to-table Backup --state temporary,stored
  filestore --bucket my-files copy --to-local=/srv/files --dry-run
  filestore list -q --meta branch=main | filestore copy --to-local=/srv/files -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.args = args
			return runCopy(cmd.Context(), a, opts)
		},
	}
	flags := cmd.Flags()
	opts.to.register(flags)
	flags.Var(&opts.states, "state", "only files in this `STATE` at the source: temporary, stored, deleted; or in one of several, with commas")
	flags.BoolVar(&opts.dryRun, "dry-run", false, "print what would be done, and do nothing")
	registerAudit(flags, &opts.audit)
	opts.transfer.register(cmd)
	opts.scan.register(flags)
	return cmd
}

// destinationFlags are the global flags that say where a filestore is, for a second one.
type destinationFlags struct {
	place
	local string
}

func (f *destinationFlags) register(flags *pflag.FlagSet) {
	flags.Var((*optionalDir)(&f.local), "to-local", "copy to a directory on this disk; without `[=DIR]` in the user's data directory")
	flags.Lookup("to-local").NoOptDefVal = "true"
	flags.StringVar(&f.bucket, "to-bucket", "", "copy to this S3 bucket")
	flags.StringVar(&f.table, "to-table", "", "the DynamoDB table of the destination (default: of that name at the source)")
	flags.StringVar(&f.profile, "to-profile", "", "profile of the AWS configuration for the destination")
	flags.StringVar(&f.region, "to-region", "", "AWS region of the destination")
	flags.StringVar(&f.endpointURL, "to-endpoint-url", "", "`URL` of both services of the destination, if not AWS")
}

// settings is the configuration of the destination, by that of the source.
func (f *destinationFlags) settings(a *app, source settings) (settings, error) {
	to := source
	to.dir, to.local = "", false
	if a.flags.changed("to-local") {
		on, err := parseBool(f.local)
		switch {
		case f.local == "":
			on = true
		case err != nil:
			on, to.dir = true, f.local
		}
		to.local = on
	}
	switch {
	case to.local && f.bucket != "":
		return to, usagef("", "--to-local and --to-bucket exclude each other")
	case !to.local && f.bucket == "":
		return to, usagef("--to-bucket NAME or --to-local=DIR", "no destination is named")
	}
	to.bucket = f.bucket
	if f.table != "" {
		to.table = f.table
	}
	if a.flags.changed("to-profile") {
		to.profile, to.region, to.endpointURL = f.profile, "", ""
	}
	if a.flags.changed("to-region") {
		to.region = f.region
	}
	if a.flags.changed("to-endpoint-url") {
		to.endpointURL = f.endpointURL
	}
	return to, nil
}

// check looks at the flags, and returns the ids, nil for all files.
func (o *copyOptions) check(ctx context.Context, a *app) ([]string, error) {
	if slices.Contains(o.states, records.Placeholder) {
		return nil, usagef("", "--state: placeholders are not copied: their uploads are under way")
	}
	if len(o.args) == 0 {
		return nil, nil
	}
	if len(o.states) > 0 {
		return nil, usagef(`"filestore list -q --state" prints the ids of files in a state`, "--state is for a copy of all files, and ids are given")
	}
	ids, err := a.readIDs(ctx, o.args)
	if ids == nil {
		ids = []string{} // none on standard input are none, and not all
	}
	return ids, err
}

func runCopy(ctx context.Context, a *app, opts *copyOptions) (err error) {
	reads, err := opts.scan.meter()
	if err != nil {
		return err
	}
	source, err := a.settings()
	if err != nil {
		return err
	}
	destination, err := opts.to.settings(a, source)
	if err != nil {
		return err
	}
	ids, err := opts.check(ctx, a)
	if err != nil {
		return err
	}
	from, err := a.openAt(ctx, source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	to, err := a.openAt(ctx, destination)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	defer func() { err = errors.Join(err, to.close()) }()
	if what := shared(from, to); what != "" {
		return usagef("", "source and destination have the same %s", what)
	}
	if !opts.dryRun {
		if err := a.audit(to, opts.audit, "copy"); err != nil {
			return err
		}
	}
	for _, fs := range []*filestore{from, to} {
		if err := opts.transfer.apply(a, fs.Transfer); err != nil {
			return err
		}
	}

	files := -1
	if ids != nil {
		files = len(ids)
	}
	a.expect(files, -1)
	bar := a.startProgress(ctx, "copying", -1, files)
	defer bar.end()
	a.out.columns("ID", "NAME", "SIZE", "STATE", "ACTION")
	a.out.stream()
	var t tally
	var n copyCounts
	for c, err := range from.CopyTo(ctx, to.Client, client.CopyOptions{
		IDs: ids, States: opts.states, DryRun: opts.dryRun, Segments: opts.scan.segments, Reads: reads,
		Progress: bar.add, Ended: bar.fileEnded,
	}) {
		if err != nil {
			return err
		}
		n.count(c)
		if c.Err != nil {
			t.fail(c.Err)
			a.out.fail(c.ID, "", c.Err)
			continue
		}
		t.ok()
		if c.Unverified {
			a.warn(subject{id: c.ID}, "was copied without a checksum to compare")
		}
		if c.Action != client.CopySame {
			a.out.add(copiedResult(c, opts.dryRun))
		}
		// Whoever reads the results may have seen enough, and is gone.
		if a.out.err != nil {
			return nil // close returns it
		}
	}
	bar.end()
	if err := a.out.close(); err != nil {
		return err
	}
	if n.own > 0 {
		a.message("warning", "%s at the destination by what was stored or deleted, and left alone", plural(n.own, "file differs", "files differ"))
	}
	if !a.flags.quiet {
		a.say(message{kind: "note", text: n.describe(opts.dryRun), attrs: n.attrs()})
	}
	if ids == nil {
		a.noteReads(from, reads)
	}
	return t.result()
}

// shared names a part that two filestores have in common, "" where they have none. Copied onto itself,
// a file would be deleted for having been deleted.
func shared(a, b *filestore) string {
	if a.local != nil || b.local != nil {
		if a.identity == b.identity || a.local != nil && b.local != nil && sameDir(a.place, b.place) {
			return "directory"
		}
		return ""
	}
	endpoint := func(fs *filestore) string { return aws.ToString(fs.S3.Options().BaseEndpoint) }
	switch {
	case endpoint(a) != endpoint(b):
		return ""
	case a.Bucket == b.Bucket:
		return "bucket"
	case a.tableName == b.tableName && a.region == b.region && a.place.profile == b.place.profile:
		return "table" // another profile may be another account, with a table of its own
	}
	return ""
}

// sameDir reports whether two local stores are in one directory, by whatever names.
func sameDir(a, b place) bool {
	var infos [2]os.FileInfo
	for i, p := range []place{a, b} {
		dir, err := p.localDir()
		if err != nil {
			return false
		}
		if infos[i], err = os.Stat(dir); err != nil {
			return false
		}
	}
	return os.SameFile(infos[0], infos[1])
}

// copiedJSON is one file of a copy in JSON (docs/output.md).
type copiedJSON struct {
	ID     string            `json:"id"`
	Name   string            `json:"name"`
	Size   *int64            `json:"size,omitempty"` // bytes
	State  records.State     `json:"state"`          // at the destination
	Action client.CopyAction `json:"action"`
	DryRun bool              `json:"dry_run,omitempty"`
}

func copiedResult(c client.Copied, dryRun bool) result {
	r := c.Record
	j := copiedJSON{ID: c.ID, Name: r.Name, State: r.State(), Action: c.Action, DryRun: dryRun}
	if r.Size >= 0 {
		j.Size = &r.Size
	}
	return result{
		id:    c.ID,
		cells: []cell{text(c.ID), text(r.Name), size(r.Size), text(string(j.State)), text(string(c.Action))},
		json:  j,
	}
}

// copyCounts counts the files of a copy.
type copyCounts struct {
	copied, forward, differ, same, failed int
	bytes                                 int64 // of the objects that were copied
	own                                   int   // that differ, other than by a sweep on one of the sides
}

func (n *copyCounts) count(c client.Copied) {
	if c.Err != nil {
		if client.ReasonOf(c.Err) != client.Interrupted { // of which the last line tells
			n.failed++
		}
		return
	}
	switch c.Action {
	case client.CopyMade:
		n.copied++
		if c.Record.State() != records.Deleted {
			n.bytes += max(c.Record.Size, 0)
		}
	case client.CopyForward:
		n.forward++
	case client.CopySame:
		n.same++
	case client.CopyDiffers:
		n.differ++
		if c.Source.State() != records.Temporary || c.Record.State() != records.Deleted {
			n.own++
		}
	}
}

// attrs are the numbers of a copy, for a log.
func (n *copyCounts) attrs() []slog.Attr {
	return []slog.Attr{
		slog.Int("copied", n.copied), slog.Int("same", n.same), slog.Int("forwarded", n.forward), slog.Int("differing", n.differ),
		slog.Int("failed", n.failed), slog.Int64("bytes", n.bytes),
	}
}

// describe is the one line that sums up a copy.
func (n *copyCounts) describe(dryRun bool) string {
	first := "nothing to copy"
	if n.copied > 0 {
		first = fmt.Sprintf("%s copied (%s)", fileCount(n.copied), iecSize(n.bytes))
	}
	parts := []string{first}
	for _, p := range []struct {
		n    int
		text string
	}{
		{n.same, "there already"},
		{n.forward, "brought forward"},
		{n.differ, "differing and left alone"},
		{n.failed, "failed"},
	} {
		if p.n > 0 {
			parts = append(parts, thousands(strconv.Itoa(p.n))+" "+p.text)
		}
	}
	line := strings.Join(parts, ", ")
	if dryRun {
		line = "dry run: " + line
	}
	return line
}

func fileCount(n int) string { return thousandsOf(int64(n), "file", "files") }
