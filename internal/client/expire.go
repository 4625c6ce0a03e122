package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

const (
	// cleanAgain is how long after its deletion the object of a file is deleted again, at least:
	// as long as a URL may live through which it could come back.
	cleanAgain = 24 * time.Hour
	// staleUpload is the age from which a multipart upload without a live record is nobody's.
	staleUpload = 24 * time.Hour
)

// ExpireOptions choose what a sweep does.
type ExpireOptions struct {
	// OlderThan is the temporary lifetime to go by; 0: the setting TemporaryLifetime.
	OlderThan time.Duration
	// DryRun changes nothing, and reports what would be done.
	DryRun bool
	// Max is how many files are claimed at most; 0: no limit.
	Max int
	// Segments is how many parts of the table are read at once; 0: [DefaultSegments].
	Segments int
	// Reads counts what reading the table costs, and may limit its rate. May be nil.
	Reads *records.Meter
	// Report is told of each file that the sweep acted on or failed at. May be nil.
	Report func(Swept)
}

// Action is what a sweep does to a file.
type Action string

// The actions.
const (
	ActionExpire  Action = "expire"  // temporary for too long: deleted
	ActionAbandon Action = "abandon" // a placeholder without an object: deleted
	ActionSettle  Action = "settle"  // a placeholder with an object: recorded as uploaded
	ActionClean   Action = "clean"   // deleted within the last 24 h: its object deleted again
	ActionAbort   Action = "abort"   // a multipart upload that nobody goes on with: aborted
)

// Swept is one file that a sweep acted on.
type Swept struct {
	ID     string
	Name   string
	Action Action
	Err    error // nil: done (or, in a dry run, would be done)
}

// Summary counts what a sweep did, in files.
type Summary struct {
	Expired   int
	Abandoned int
	Settled   int
	Cleaned   int
	Aborted   int
	Failed    int
	// Unreadable is how many records were met and left alone because their times can't be read, or
	// their id is none.
	Unreadable int
	// More says that Max was reached: more files may be due.
	More bool
	// Unlisted is why the multipart uploads could not be listed; nil where they were. The sweep of
	// records goes on without: a server may lack the call, or the role the permission. Placeholders
	// are then left alone for a day longer.
	Unlisted error
}

// Expire carries out the sweeps ("expire", "expire, never uploaded" and "expire, clean again",
// docs/contract.md, "The transitions") in one pass over the table. It may run while users work
// and while other sweeps run: every file is claimed by a conditional write, and where somebody
// else was first, nothing is done.
//
// The error is that of the pass itself; failures of single files are reported and counted.
func (c *Client) Expire(ctx context.Context, opts ExpireOptions) (Summary, error) {
	s := &sweep{client: c, opts: opts, now: c.Now()}
	s.dueBefore, s.abandonBefore = c.dueBefore(s.now, opts.OlderThan)
	s.cleanSince = s.now.Add(-max(cleanAgain, c.Settings.URLLifetime)).Truncate(time.Second)
	err := s.run(ctx)
	return s.summary, err
}

// dueBefore returns the times before which a temporary file must have been uploaded, and a placeholder
// been made, to be due now; lifetime 0: the setting.
//
// Stamps are whole seconds. With limits of whole seconds too, the filter, the look at the
// record and the condition of the claim all compare the same.
func (c *Client) dueBefore(now time.Time, lifetime time.Duration) (uploaded, created time.Time) {
	uploaded = now.Add(-cmp.Or(lifetime, c.Settings.TemporaryLifetime)).Truncate(time.Second)
	return uploaded, uploaded.Add(-c.Settings.URLLifetime).Truncate(time.Second)
}

type sweep struct {
	client        *Client
	opts          ExpireOptions
	now           time.Time
	dueBefore     time.Time                          // temporary files uploaded before it are due
	abandonBefore time.Time                          // placeholders created before it are due
	cleanSince    time.Time                          // files deleted since are cleaned again
	uploads       map[string][]types.MultipartUpload // under way or left behind, by key
	work          []due
	claimed       int
	summary       Summary
}

// due is a record with what is due for it.
type due struct {
	records.Record
	action Action
}

func (s *sweep) run(ctx context.Context) error {
	if err := s.listUploads(ctx); err != nil {
		return err
	}
	if s.summary.Unlisted != nil {
		// An upload in progress can't be told from one that was given up, but by its age.
		s.abandonBefore = s.abandonBefore.Add(-staleUpload)
	}
	filter := records.Filter{
		UploadedBefore: records.At(s.dueBefore),
		CreatedBefore:  records.At(s.abandonBefore),
		DeletedSince:   records.At(s.cleanSince),
	}
	scan := records.ScanOptions{Segments: cmp.Or(s.opts.Segments, DefaultSegments), Meter: s.opts.Reads}
	for page, err := range s.client.Records.Scan(ctx, filter, scan) {
		if err != nil {
			err = fmt.Errorf("read the records: %w", err)
			if ctx.Err() == nil { // what came before is done all the same
				err = errors.Join(err, s.settle(ctx))
			}
			return err
		}
		if s.collect(page); len(s.work) < deleteChunk {
			continue // segments may have small pages
		}
		if err := s.settle(ctx); err != nil {
			return err
		}
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	return s.staleUploads(ctx)
}

// collect adds what is due of one page to the work.
func (s *sweep) collect(page []records.Record) {
	for _, r := range page {
		action := s.action(r)
		switch {
		case action == "":
			continue
		case action == ActionClean:
		case s.opts.Max > 0 && s.claimed == s.opts.Max:
			s.summary.More = true
			continue
		default:
			s.claimed++
		}
		s.work = append(s.work, due{r, action})
	}
}

// settle does the work that has come together: the claims in parallel, then the objects together.
func (s *sweep) settle(ctx context.Context) error {
	work := s.work
	s.work = nil
	var outcomes []Swept
	var objects []string
	for done := range InOrder(ctx, work, batch, s.claim) {
		if done.Action == "" {
			continue
		}
		outcomes = append(outcomes, done)
		if done.Err == nil && done.Action != ActionSettle && !s.opts.DryRun {
			objects = append(objects, done.ID)
		}
	}
	// The objects go only after their records are claimed. What is not reached any more, because
	// ctx ended or the process was killed, the next sweep cleans again.
	failures := s.client.deleteObjects(ctx, objects)
	for _, id := range objects {
		if s.uploads[id] != nil && failures[id] == nil {
			failures[id] = s.client.abortUploads(ctx, id)
			delete(s.uploads, id)
		}
	}
	for _, done := range outcomes {
		if err := failures[done.ID]; err != nil {
			done.Err = failed(done.ID, err)
		}
		s.report(done)
	}
	return ctx.Err()
}

// action tells what is due for r, "" for nothing.
func (s *sweep) action(r records.Record) Action {
	if !ValidID(r.ID) {
		s.summary.Unreadable++
		return ""
	}
	var action Action
	var stamp records.Stamp
	var isDue bool
	switch r.State() {
	case records.Temporary:
		action, stamp = ActionExpire, r.UploadedAt
		isDue = stamp.Before(s.dueBefore)
	case records.Placeholder:
		action, stamp = ActionAbandon, r.CreatedAt
		isDue = stamp.Before(s.abandonBefore)
	case records.Deleted:
		action, stamp = ActionClean, r.DeletedAt
		isDue = !stamp.Before(s.cleanSince)
	case records.Stored:
		return ""
	}
	if _, err := stamp.Time(); err != nil {
		if stamp.IsSet() {
			s.summary.Unreadable++
		}
		return ""
	}
	if !isDue {
		return ""
	}
	return action
}

// claim carries out the transition that is due. A zero Action in the answer means that nothing
// is to be done any more: the condition no longer held, or the upload is still going on.
func (s *sweep) claim(ctx context.Context, r due) Swept {
	done := Swept{ID: r.ID, Name: r.Name, Action: r.action}
	var err error
	switch r.action {
	case ActionExpire:
		if !s.opts.DryRun {
			_, err = s.client.Records.Expire(ctx, r.ID, records.At(s.now), records.At(s.dueBefore))
		}
	case ActionAbandon:
		done.Action, err = s.neverUploaded(ctx, r.ID)
	}
	if _, lost := errors.AsType[*records.TransitionError](err); lost {
		return Swept{}
	}
	done.Err = failed(r.ID, err)
	return done
}

// neverUploaded carries out "expire, never uploaded". The object is asked for first: the
// notification of its upload may have been lost.
func (s *sweep) neverUploaded(ctx context.Context, id string) (Action, error) {
	c := s.client
	upload, found, err := c.head(ctx, id)
	switch {
	case err != nil:
		return ActionAbandon, err
	case found:
		upload.Store = c.Settings.StoreOnLoad
		if !s.opts.DryRun {
			_, err = c.Records.Uploaded(ctx, id, upload)
		}
		return ActionSettle, err
	}
	active, err := s.inProgress(ctx, id)
	switch {
	case err != nil:
		return ActionAbandon, err
	case active:
		return "", nil
	}
	if !s.opts.DryRun {
		_, err = c.Records.Abandon(ctx, id, records.At(s.now), records.At(s.abandonBefore))
	}
	return ActionAbandon, err
}

// inProgress reports whether a part of a multipart upload to id arrived so lately that the
// placeholder must be left to it: a large upload may take longer than a presigned URL lives, and
// the sweep must not take its record away.
func (s *sweep) inProgress(ctx context.Context, id string) (bool, error) {
	for _, u := range s.uploads[id] {
		latest := aws.ToTime(u.Initiated)
		pages := s3.NewListPartsPaginator(s.client.S3, &s3.ListPartsInput{
			Bucket: &s.client.Bucket, Key: &id, UploadId: u.UploadId,
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if transfer.IsNoSuchUpload(err) {
				break
			}
			if err != nil {
				return false, err
			}
			for _, p := range page.Parts {
				if t := aws.ToTime(p.LastModified); t.After(latest) {
					latest = t
				}
			}
		}
		if !latest.Before(s.abandonBefore) {
			return true, nil
		}
	}
	return false, nil
}

// listUploads asks once for all multipart uploads: usually there are none or few.
func (s *sweep) listUploads(ctx context.Context) error {
	s.uploads = make(map[string][]types.MultipartUpload)
	pages := s3.NewListMultipartUploadsPaginator(s.client.S3, &s3.ListMultipartUploadsInput{Bucket: &s.client.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			if isNotImplemented(err) || ReasonOf(err) == Permission {
				s.summary.Unlisted = err
				return nil
			}
			return fmt.Errorf("list the multipart uploads: %w", err)
		}
		for _, u := range page.Uploads {
			key := aws.ToString(u.Key)
			s.uploads[key] = append(s.uploads[key], u)
		}
	}
	return nil
}

// staleUploads aborts what is left of uploads without a placeholder: killed after their record
// was discarded or deleted. Keys that are no ids are not ours.
func (s *sweep) staleUploads(ctx context.Context) error {
	var ids []string
	for id, uploads := range s.uploads {
		stale := func(u types.MultipartUpload) bool { return aws.ToTime(u.Initiated).Before(s.now.Add(-staleUpload)) }
		if ValidID(id) && slices.ContainsFunc(uploads, stale) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	found, err := s.client.Records.Get(ctx, ids)
	if err != nil {
		return fmt.Errorf("read the records of stale multipart uploads: %w", err)
	}
	for _, id := range ids {
		r, ok := found[id]
		if ok && r.State() == records.Placeholder {
			continue // its own sweep looks at what the upload does
		}
		done := Swept{ID: id, Name: r.Name, Action: ActionAbort}
		if !s.opts.DryRun {
			done.Err = failed(id, s.client.abortUploads(ctx, id))
		}
		s.report(done)
	}
	return ctx.Err()
}

func (s *sweep) report(done Swept) {
	count := map[Action]*int{
		ActionExpire: &s.summary.Expired, ActionAbandon: &s.summary.Abandoned, ActionSettle: &s.summary.Settled,
		ActionClean: &s.summary.Cleaned, ActionAbort: &s.summary.Aborted,
	}[done.Action]
	if done.Err != nil {
		count = &s.summary.Failed
	}
	*count++
	if s.opts.Report != nil {
		s.opts.Report(done)
	}
}
