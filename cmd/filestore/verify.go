package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

type verifyOptions struct {
	fix    classList
	dryRun bool
	grace  duration
	deep   bool
	audit  string
	scan   scanFlags
}

func newVerifyCmd(a *app) *cobra.Command {
	opts := &verifyOptions{grace: duration(client.DefaultGrace)}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare the bucket with the table, and repair",
		Long: `Compare the bucket with the table, and print what does not fit together. Nothing is
changed unless --fix names what is to be repaired:

  orphan          an object without a record: it is deleted
  missing         a record whose object is gone: it is marked as deleted
  undeleted       a deleted record whose object is there: the object is deleted again
  differs         size or type of the object is not what the record says: the record is
                  corrected
  unrecorded      an object is there, and its record does not say uploaded: it will
  never-uploaded  a placeholder that is past its time: it is marked as deleted
  stale-upload    a multipart upload that nobody goes on with: it is aborted
  malformed       a record that breaks the contract: not repaired
  damaged         with --deep, an object that is not what S3 holds the checksum of: not
                  repaired

"--fix all" is all of these but orphan, which must be named: the object may be the last of a
file whose record was lost. Look at what is found first; with the wrong bucket or table
everything is.

It may run at any time. What is younger than --grace is left alone, and what is found is
looked at again before it is printed. Let the grace be longer than the time between two
sweeps, which repair some of this too.

The whole table is read, and the whole bucket listed. For each million records it needs 29 MB
of disk in $TMPDIR, and no more memory.

The exit status is 3 if something was found and not repaired.`,
		Example: `  filestore verify
  filestore verify --fix undeleted,stale-upload --dry-run
  filestore verify --fix all,orphan --json
  filestore verify --deep --bwlimit 20M`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runVerify(cmd.Context(), a, opts) },
	}
	flags := cmd.Flags()
	flags.Var(&opts.fix, "fix", "repair what is found of this `CLASS`, or of several, with commas; all: of all but orphan")
	flags.BoolVar(&opts.dryRun, "dry-run", false, "with --fix: print what would be repaired, and do nothing")
	flags.Var(&opts.grace, "grace", "report only what has been so for this long")
	flags.BoolVar(&opts.deep, "deep", false, "read all objects and verify their checksums; compare their types too")
	registerAudit(flags, &opts.audit)
	opts.scan.register(flags)
	return cmd
}

// localListings is how many listings of a local store run at once: for each page its server reads the whole
// directory into memory.
const localListings = 2

// findingJSON is a finding in JSON (docs/output.md).
type findingJSON struct {
	ID         string        `json:"id"`
	Class      client.Class  `json:"class"`
	Name       string        `json:"name"`
	State      records.State `json:"state,omitempty"`
	Size       *int64        `json:"size,omitempty"` // of the record, bytes
	Type       string        `json:"type,omitempty"`
	CreatedAt  string        `json:"created_at,omitempty"` // RFC 3339, UTC
	UploadedAt string        `json:"uploaded_at,omitempty"`
	StoredAt   string        `json:"stored_at,omitempty"`
	DeletedAt  string        `json:"deleted_at,omitempty"`
	Object     *objectJSON   `json:"object,omitempty"`
	Malformed  []string      `json:"malformed,omitempty"`
	UploadID   string        `json:"upload_id,omitempty"`
	LatestAt   string        `json:"latest_at,omitempty"`
	Detail     string        `json:"detail"`
	Repair     client.Repair `json:"repair,omitempty"`
	Repaired   bool          `json:"repaired,omitempty"`
	DryRun     bool          `json:"dry_run,omitempty"`
}

type objectJSON struct {
	Size     int64  `json:"size"`
	Type     string `json:"type,omitempty"`
	Modified string `json:"modified_at"`
}

func runVerify(ctx context.Context, a *app, opts *verifyOptions) (err error) {
	if opts.grace <= 0 {
		return usagef("", "--grace must be more than zero")
	}
	if opts.dryRun && len(opts.fix) == 0 {
		return usagef("without --fix nothing is changed", "--dry-run is for --fix")
	}
	reads, err := opts.scan.meter()
	if err != nil {
		return err
	}
	fs, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.close()) }()

	if len(opts.fix) > 0 && !opts.dryRun {
		if err := a.audit(fs, opts.audit, "verify"); err != nil {
			return err
		}
	}
	listings := client.DefaultListings
	if fs.local != nil {
		listings = localListings
	}
	a.out.columns("ID", "NAME", "CLASS", "STATE", "REPAIR", "DETAIL")
	a.out.stream()
	var t tally
	var left int // found and not repaired
	progress := new(client.VerifyProgress)
	stop := a.showEvery(ctx, func() string { return describeVerifying(reads, progress) })
	verifyCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	summary, err := fs.Verify(verifyCtx, client.VerifyOptions{
		Fix: opts.fix, DryRun: opts.dryRun, Grace: time.Duration(opts.grace), Deep: opts.deep,
		Segments: opts.scan.segments, Listings: listings, Reads: reads, Progress: progress,
		Report: func(f client.Finding) {
			switch {
			case f.Err != nil:
				t.fail(f.Err)
			case f.Done:
				t.ok()
			default:
				left++
			}
			if f.Class != "" {
				a.out.add(newFindingResult(f, opts.dryRun))
			}
			if f.Err != nil {
				a.out.fail(f.ID, "", f.Err)
			}
			if a.out.err != nil {
				cancel() // nobody would know what is found, and repaired, from now on
			}
		},
	})
	stop()
	if a.out.err != nil {
		return nil // close returns it
	}
	if summary.Unlisted != nil {
		a.message("warning", "multipart uploads were not looked at, since they can't be listed: %s", describe(summary.Unlisted))
	}
	if err != nil {
		return err
	}
	if err := a.out.close(); err != nil {
		return err
	}
	a.remark(subject{}, "%s", describeVerify(summary, opts.dryRun))
	a.noteReads(fs, reads)
	if left > 0 {
		return &itemsError{exitPartial, left + t.failed, t.done}
	}
	return t.result()
}

func newFindingResult(f client.Finding, dryRun bool) result {
	detail := describeFinding(f)
	r := f.Record
	out := findingJSON{
		ID: f.ID, Class: f.Class, Name: r.Name, Malformed: r.Malformed(), Detail: detail,
		Repair: f.Repair, Repaired: f.Done, DryRun: dryRun && f.Repair != "",
	}
	if r.ID != "" {
		out.State, out.Type = r.State(), r.Type
		out.CreatedAt, out.UploadedAt = stampJSON(r.CreatedAt), stampJSON(r.UploadedAt)
		out.StoredAt, out.DeletedAt = stampJSON(r.StoredAt), stampJSON(r.DeletedAt)
		if r.Size >= 0 {
			out.Size = &r.Size
		}
	}
	if o := f.Object; o != nil {
		out.Object = &objectJSON{Size: o.Size, Type: o.Type, Modified: moment(o.Modified).machine}
	}
	if f.Upload != nil {
		out.UploadID, out.LatestAt = f.Upload.UploadID, moment(f.Upload.Latest).machine
	}
	var repair client.Repair
	if f.Done || dryRun {
		repair = f.Repair
	}
	return result{
		id:    f.ID,
		cells: []cell{text(f.ID), text(r.Name), text(string(f.Class)), text(string(out.State)), text(string(repair)), text(detail)},
		json:  out,
	}
}

// describeFinding tells a person what is wrong.
func describeFinding(f client.Finding) string {
	object := func() string {
		return fmt.Sprintf("object of %s from %s", bytesOf(f.Object.Size), moment(f.Object.Modified).machine)
	}
	r := f.Record
	switch f.Class {
	case client.ClassOrphan:
		return object()
	case client.ClassMissing:
		if !r.UploadedAt.IsSet() {
			return "stored, and never uploaded"
		}
		return "uploaded at " + stampJSON(r.UploadedAt)
	case client.ClassUndeleted:
		return object() + ", deleted at " + stampJSON(r.DeletedAt)
	case client.ClassDiffers:
		var parts []string
		if r.Size != f.Object.Size {
			said := "no size"
			if r.Size >= 0 {
				said = bytesOf(r.Size)
			}
			parts = append(parts, fmt.Sprintf("object of %s, the record says %s", bytesOf(f.Object.Size), said))
		}
		if !client.SameType(r.Type, f.Object.Type) {
			parts = append(parts, fmt.Sprintf("object of type %s, the record says %s", f.Object.Type, r.Type))
		}
		return strings.Join(parts, "; ")
	case client.ClassUnrecorded:
		return object()
	case client.ClassNeverUploaded:
		return "created at " + stampJSON(r.CreatedAt)
	case client.ClassStaleUpload:
		return fmt.Sprintf("%s, nothing came since %s", bytesOf(f.Upload.Size), moment(f.Upload.Latest).machine)
	case client.ClassMalformed:
		return strings.Join(r.Malformed(), ", ")
	case client.ClassDamaged:
		return describe(f.Damage)
	}
	return ""
}

func bytesOf(n int64) string { return thousandsOf(n, "byte", "bytes") }

// describeVerifying is how far it is.
func describeVerifying(reads *records.Meter, p *client.VerifyProgress) string {
	line := "read: " + thousandsOf(reads.Total().Records, "record", "records")
	if n := p.Objects.Load(); n > 0 {
		line += ", " + thousandsOf(n, "object", "objects")
	}
	if n := p.Bytes.Load(); n > 0 {
		line += ", " + iecSize(n)
	}
	return line
}

// describeVerify is the one line at the end.
func describeVerify(s client.VerifySummary, dryRun bool) string {
	var found []string
	repaired := 0
	for _, class := range client.Classes() {
		if n := s.Found[class]; n > 0 {
			found = append(found, fmt.Sprintf("%s %s", thousands(fmt.Sprint(n)), class))
		}
		repaired += s.Repaired[class]
	}
	if found == nil {
		found = []string{"nothing found"}
	}
	line := fmt.Sprintf("compared %s with %s: %s", thousandsOf(s.Records, "record", "records"),
		thousandsOf(s.Objects, "object", "objects"), strings.Join(found, ", "))
	for _, p := range []struct {
		n         int64
		one, many string
	}{
		{int64(repaired), "repaired", "repaired"},
		{int64(s.Failed), "failed", "failed"},
		{s.Checked, "read and right", "read and right"},
		{s.Unverified, "of these without a checksum", "of these without a checksum"},
		{s.ForeignKeys, "object left alone whose key is no id", "objects left alone whose keys are no ids"},
		{s.ForeignRecords, "record left alone whose id is none", "records left alone whose ids are none"},
	} {
		if p.n > 0 {
			line += "; " + thousandsOf(p.n, p.one, p.many)
		}
	}
	if dryRun {
		line = "dry run: " + line
	}
	return line
}

// classList is a flag: classes of findings, with commas between them.
type classList []client.Class

// Set implements pflag.Value. The flag may be repeated.
func (l *classList) Set(s string) error {
	for name := range strings.SplitSeq(s, ",") {
		var classes []client.Class
		switch class := client.Class(name); {
		case name == "all":
			classes = slices.DeleteFunc(repairable(), func(c client.Class) bool { return c == client.ClassOrphan })
		case !slices.Contains(client.Classes(), class):
			return fmt.Errorf("%q is none of %s, all", name, joinNames(repairable(), ", "))
		case class.Repair() == "":
			return fmt.Errorf("what is %s can't be repaired", name)
		default:
			classes = []client.Class{class}
		}
		*l = addNew(*l, classes...)
	}
	return nil
}

// repairable returns the classes that can be repaired.
func repairable() []client.Class {
	return slices.DeleteFunc(client.Classes(), func(c client.Class) bool { return c.Repair() == "" })
}

func (l *classList) String() string { return joinNames(*l, ",") }

// Type implements pflag.Value.
func (l *classList) Type() string { return "classes" }
