package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/designfultech/filestore/internal/limit"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

const (
	// cleanAgain is how long after its deletion the object of a file is deleted again, at least:
	// as long as a URL may live through which it could come back.
	cleanAgain = 24 * time.Hour
	// deletesAtOnce is how many DeleteObjects requests are under way at most.
	deletesAtOnce = 4
	// deleteWait is how long a claimed file waits for others, until its object is deleted: where claims are
	// slow, there may not be a full request for an hour.
	deleteWait = 5 * time.Second
	// maxExcused is how many more times a claim is made that was throttled, though the SDK has tried it
	// some times, and after which fewer are in flight: that there were too many is not its fault.
	maxExcused = 10
	// Sweeps split the table into more parts than they read at once, and take them in a random order:
	// so two sweeps at the same time are mostly at different records and share the work. With a limit
	// of time there are more, so that each is small, and every part has its turn sooner or later.
	partsPerSegment      = 8
	shortPartsPerSegment = 64

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
	// Full has the whole table read also where it has an index of pending files: that finds files which
	// others have made without the marks of docs/contract.md, "The pending index".
	Full bool
	// Segments is how many parts of the table, or of the index, are read at once; 0: [DefaultSegments].
	Segments int
	// MaxDuration is after how long the sweep begins nothing new: it finishes what is under way, and
	// ends. 0: no limit.
	MaxDuration time.Duration
	// Reads and Writes count what reading and writing the table costs, and may limit its rate. When
	// MaxDuration is over, they are stopped. May be nil.
	Reads, Writes *records.Meter
	// Report is told of each file that the sweep acted on or failed at, of one at a time. May be nil.
	Report func(Swept)
}

// Action is what a sweep, or a deletion, does to a file.
type Action string

// The actions.
const (
	ActionExpire  Action = "expire"  // temporary for too long: deleted
	ActionAbandon Action = "abandon" // a placeholder without an object: deleted
	ActionSettle  Action = "settle"  // a placeholder with an object: recorded as uploaded
	ActionClean   Action = "clean"   // deleted within the last 24 h: its object deleted again
	ActionAbort   Action = "abort"   // a multipart upload that nobody goes on with: aborted
	ActionDelete  Action = "delete"  // somebody asked for it, and no sweep

	ActionMark   Action = "mark"   // waits for something: put into the index of pending files
	ActionUnmark Action = "unmark" // waits for nothing any more: taken out of it
)

// Swept is one file that a sweep acted on.
type Swept struct {
	ID     string
	Name   string
	Action Action
	Err    error // nil: done (or, in a dry run, would be done)

	record records.Record
}

// Summary counts what a sweep did, in files.
type Summary struct {
	Expired   int
	Abandoned int
	Settled   int
	Cleaned   int
	Aborted   int
	Failed    int
	// Indexed says that the index of pending files was read, and not the table. Where Unindexed is not nil,
	// it is why an index could not be read: the role lacks the permission.
	Indexed   bool
	Unindexed error
	// Unreadable is how many records were met and left alone because their times can't be read, or
	// their id is none.
	Unreadable int
	// More says that Max was reached: more files may be due.
	More bool
	// Unfinished says that MaxDuration was over before everything was looked at: more files may be due.
	Unfinished bool
	// Left is how many files were seen to be due, and are left to the next sweep: those beyond Max, those
	// that MaxDuration was over for, and those whose claim failed.
	Left int
	// LeftSince is the oldest time at which one of them was uploaded, or its placeholder made; zero
	// where there is none.
	LeftSince time.Time
	// Unlisted is why the multipart uploads could not be listed; nil where they were. The sweep of
	// records goes on without: a server may lack the call, or the role the permission. Placeholders
	// are then left alone for a day longer.
	Unlisted error
}

// Expire carries out the sweeps ("expire", "expire, never uploaded" and "expire, clean again",
// docs/contract.md, "The transitions") in one pass over the index of pending files, or where there is
// none over the table. It may run while users work and while other sweeps run: every file is claimed by
// a conditional write, and where somebody else was first, nothing is done.
//
// The error is that of the pass itself; failures of single files are reported and counted.
func (c *Client) Expire(ctx context.Context, opts ExpireOptions) (Summary, error) {
	s := &sweep{
		client: c, opts: opts, now: c.Now(), table: c.Records, claims: c.Claims,
		found: make(chan Swept, maxDeleted), over: make(chan struct{}),
	}
	s.bulk, _ = c.Records.(records.BulkExpirer)
	if table, ok := c.Records.(records.Metered); ok && opts.Writes != nil {
		s.table = table.Metered(opts.Writes)
	}
	if s.claims == nil {
		s.claims = NewClaims()
	}
	s.dueBefore, s.abandonBefore = c.dueBefore(s.now, opts.OlderThan)
	s.cleanSince = c.CleanSince(s.now)
	s.end = sync.OnceFunc(func() {
		close(s.over)
		// Nobody waits for units to be had: that may take hours.
		opts.Reads.Stop()
		opts.Writes.Stop()
	})
	if opts.MaxDuration > 0 {
		defer time.AfterFunc(opts.MaxDuration, s.end).Stop()
	}
	err := s.run(ctx)
	s.summary.Unfinished = s.left.Load()
	return s.summary, err
}

// CleanSince returns the time since which a file must have been deleted for a sweep at now to delete
// its object again.
func (c *Client) CleanSince(now time.Time) time.Time {
	return now.Add(-max(cleanAgain, c.Settings.URLLifetime)).Truncate(time.Second)
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
	dueBefore     time.Time // temporary files uploaded before it are due
	abandonBefore time.Time // placeholders created before it are due
	cleanSince    time.Time // files deleted since are cleaned again

	table   records.Table       // Client.Records, metered
	bulk    records.BulkExpirer // the same where it can do that, else nil
	claims  *limit.Limiter
	claimed int           // how many claims were begun
	indexed bool          // the index of pending files is read
	found   chan Swept    // files whose objects are to be deleted
	over    chan struct{} // closed when MaxDuration is over, or the audit could not be written
	end     func()        // closes it
	left    atomic.Bool   // something was not done, since over was closed

	mu      sync.Mutex                         // guards what follows, and has Report called for one file at a time
	uploads map[string][]types.MultipartUpload // under way or left behind, by key
	summary Summary
	audit   *AuditError // why objects were not deleted
}

// timeOver reports whether nothing new is to be begun. It is asked before each step that is then not
// taken.
func (s *sweep) timeOver() bool {
	select {
	case <-s.over:
		s.left.Store(true)
		return true
	default:
		return false
	}
}

// run carries out the sweep in three stages that work at the same time: the table is read, what is due is
// claimed, and the objects of what was claimed are deleted. A stage that has too much to do holds up
// the one before it. So in memory are a page of each segment, the claims in flight, and the files
// of deletesAtOnce requests, however large the table is and however much of it is due.
func (s *sweep) run(ctx context.Context) error {
	if err := s.listUploads(ctx); err != nil || s.timeOver() {
		return err
	}
	if s.summary.Unlisted != nil {
		// An upload in progress can't be told from one that was given up, but by its age.
		s.abandonBefore = s.abandonBefore.Add(-staleUpload)
	}
	var removing sync.WaitGroup
	removing.Go(func() { s.remove(ctx) })
	err := s.claimAll(ctx)
	close(s.found)
	removing.Wait()
	if s.audit != nil {
		return errors.Join(s.audit, err)
	}
	if err = cmp.Or(err, ctx.Err()); err != nil || s.left.Load() {
		return err
	}
	return s.staleUploads(ctx)
}

// claimAll reads the table and claims what is due. When it returns, no claim is under way any more.
func (s *sweep) claimAll(ctx context.Context) error {
	filter := records.Filter{
		UploadedBefore: records.At(s.dueBefore),
		CreatedBefore:  records.At(s.abandonBefore),
		DeletedSince:   records.At(s.cleanSince),
	}
	scan := records.ScanOptions{Segments: cmp.Or(s.opts.Segments, DefaultSegments), Meter: s.opts.Reads}
	scan.Parts = scan.Segments * partsPerSegment
	if s.opts.MaxDuration > 0 {
		scan.Parts = scan.Segments * shortPartsPerSegment
	}
	claims := newWorkers(s.claims.Highest(), nil, func(j claimJob) {
		done := s.inSlot(j.slot, func() Swept { return s.claim(ctx, j.due) })
		if done.Err != nil {
			s.leave(j.due)
		}
		s.pass(done)
	})
	defer claims.wait()
	if !s.opts.Full {
		s.indexed = true
		err := s.takeAll(ctx, s.client.Records.Pending(ctx, filter, scan), claims)
		switch {
		case errors.Is(err, records.ErrNoIndex):
		case ReasonOf(err) == Permission:
			s.summary.Unindexed = err
		default:
			s.summary.Indexed = true
			return err
		}
		s.indexed = false
	}
	return s.takeAll(ctx, s.client.Records.Scan(ctx, filter, scan), claims)
}

// inSlot makes a write, and again what was throttled once fewer are in flight. Then the slot is free.
func (s *sweep) inSlot(slot *limit.Slot, write func() Swept) Swept {
	defer slot.Release(0)
	done := write()
	for range maxExcused {
		if !isThrottled(done.Err) || !slot.Throttled() || s.timeOver() {
			break
		}
		done = write()
	}
	return done
}

// takeAll has what is due of all pages claimed.
func (s *sweep) takeAll(ctx context.Context, pages iter.Seq2[[]records.Record, error], claims *workers[claimJob]) error {
	for page, err := range pages {
		if errors.Is(err, records.ErrStopped) {
			s.timeOver()
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the records: %w", err)
		}
		if err := s.take(ctx, page, claims); err != nil || s.timeOver() {
			return err
		}
	}
	return nil
}

// due is a record with what is due for it.
type due struct {
	records.Record
	action Action
}

// claimJob is a claim that may be in flight.
type claimJob struct {
	due
	slot *limit.Slot
}

// take has what is due of one page claimed.
func (s *sweep) take(ctx context.Context, page []records.Record, claims *workers[claimJob]) error {
	var together []due
	for i, r := range page {
		action := s.action(r)
		switch {
		case action == "":
			continue
		case action == ActionClean:
			s.pass(due{r, action}.swept(nil))
			continue
		case action == ActionUnmark:
		case s.opts.Max > 0 && s.claimed == s.opts.Max:
			s.more()
			s.leave(due{r, action})
			continue
		default:
			s.claimed++
		}
		if action == ActionExpire && s.bulk != nil && !s.opts.DryRun {
			together = append(together, due{r, action})
			continue
		}
		slot, err := s.claims.Acquire(ctx)
		if err != nil {
			return err
		}
		if s.timeOver() {
			slot.Release(0)
			s.leave(together...)
			for _, r := range page[i:] {
				if action := s.action(r); action != "" && action != ActionClean {
					s.leave(due{r, action})
				}
			}
			return nil
		}
		claims.do(claimJob{due{r, action}, slot})
	}
	switch {
	case len(together) == 0:
	case s.timeOver():
		s.leave(together...)
	default:
		s.expireMany(ctx, together)
	}
	return ctx.Err()
}

// leave counts files that are due as left to the next sweep.
func (s *sweep) leave(files ...due) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range files {
		if r.action == ActionUnmark {
			continue // its file stays
		}
		s.summary.Left++
		stamp := r.UploadedAt
		if r.action != ActionExpire {
			stamp = r.CreatedAt
		}
		if t, err := stamp.Time(); err == nil && (s.summary.LeftSince.IsZero() || t.Before(s.summary.LeftSince)) {
			s.summary.LeftSince = t
		}
	}
}

// swept is the outcome of r.
func (r due) swept(err error) Swept {
	return Swept{ID: r.ID, Name: r.Name, Action: r.action, Err: failed(r.ID, err), record: r.Record}
}

// expireMany claims temporary files with one write.
func (s *sweep) expireMany(ctx context.Context, files []due) {
	ids := make([]string, len(files))
	for i, r := range files {
		ids[i] = r.ID
	}
	claimed, err := s.bulk.ExpireMany(ctx, ids, records.At(s.now), records.At(s.dueBefore))
	won := make(map[string]bool, len(claimed))
	for _, id := range claimed {
		won[id] = true
	}
	for _, r := range files {
		switch {
		case won[r.ID]:
			s.pass(r.swept(nil))
		case err != nil:
			s.leave(r)
			s.pass(r.swept(err))
		}
	}
}

// pass hands a file on to where its object is deleted, unless that is to stay.
func (s *sweep) pass(done Swept) {
	switch {
	case done.Action == "":
	case done.Err != nil || done.Action == ActionSettle || s.opts.DryRun:
		s.report(done)
	default:
		s.found <- done
	}
}

// remove deletes the objects of the files that are found, until there are no more: as many with one
// request as it takes, and some requests at the same time.
//
// The objects go only after their records are claimed. What is not reached any more, because ctx
// ended or the process was killed, the next sweep cleans again.
func (s *sweep) remove(ctx context.Context) {
	var requests errgroup.Group
	requests.SetLimit(deletesAtOnce)
	var files []Swept
	waited := time.NewTimer(deleteWait)
	defer waited.Stop()
	send := func() {
		if len(files) == 0 {
			return
		}
		together := files
		files = nil
		requests.Go(func() error { s.removeTogether(ctx, together); return nil })
	}
	for {
		select {
		case done, ok := <-s.found:
			if !ok {
				send()
				_ = requests.Wait() // none of them fails
				return
			}
			if files = append(files, done); len(files) == 1 {
				waited.Reset(deleteWait)
			}
			if len(files) == maxDeleted {
				send()
			}
		case <-waited.C:
			send()
		}
	}
}

// removeTogether deletes the objects of files, and what is left of their uploads.
func (s *sweep) removeTogether(ctx context.Context, files []Swept) {
	ids := make([]string, len(files))
	deletions := make([]Deletion, len(files))
	for i, f := range files {
		ids[i] = f.ID
		deletions[i] = newDeletion(f.record, f.Action)
	}
	failures, err := s.removeAudited(ctx, deletions, func() map[string]error {
		failures := s.client.deleteObjects(ctx, ids)
		for _, id := range ids {
			if failures[id] == nil && s.takeUploads(id) {
				failures[id] = s.client.abortUploads(ctx, id)
			}
		}
		return failures
	})
	if err != nil {
		return
	}
	var settled []Swept
	for _, done := range files {
		if err := failures[done.ID]; err != nil {
			done.Err = failed(done.ID, err)
		} else if done.Action == ActionClean && done.record.DeletedAt.Before(s.cleanSince) {
			settled = append(settled, done)
			continue
		}
		s.report(done)
	}
	// Only now, so that the next sweep finds what this one did not reach.
	for done := range InOrder(ctx, settled, s.claims.Highest(), s.unmark) {
		s.report(done)
	}
}

// unmark takes a file that waits for nothing any more out of the index.
func (s *sweep) unmark(ctx context.Context, done Swept) Swept {
	slot, err := s.claims.Acquire(ctx)
	if err != nil {
		done.Err = s.unmarkFailed(done.ID, err)
		return done
	}
	return s.inSlot(slot, func() Swept {
		_, err := s.table.UnmarkPending(ctx, done.ID, records.At(s.cleanSince))
		done.Err = s.unmarkFailed(done.ID, err)
		return done
	})
}

// unmarkFailed is err as the failure of a file, nil where none is worth telling.
func (s *sweep) unmarkFailed(id string, err error) error {
	if _, lost := errors.AsType[*records.TransitionError](err); err == nil || lost {
		return nil
	}
	if errors.Is(err, records.ErrStopped) {
		s.timeOver()
		return nil
	}
	return failed(id, fmt.Errorf("take it out of the index: %w", err))
}

// removeAudited is Client.audited for a sweep: when the audit can't be written, it has the sweep end.
func (s *sweep) removeAudited(ctx context.Context, files []Deletion, remove func() map[string]error) (map[string]error, error) {
	s.mu.Lock()
	before := s.audit
	s.mu.Unlock()
	var unaudited *AuditError
	if before == nil {
		var failures map[string]error
		if failures, unaudited = s.client.audited(ctx, files, remove); unaudited == nil {
			return failures, nil
		}
		s.end()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.audit == nil {
		s.audit = unaudited
	}
	for _, f := range files {
		if f.Action != ActionClean && f.Action != ActionAbort {
			s.audit.Left++
			s.summary.Failed++
		}
	}
	return nil, s.audit
}

// uploadsOf returns the multipart uploads of id.
func (s *sweep) uploadsOf(id string) []types.MultipartUpload {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uploads[id]
}

// takeUploads forgets the multipart uploads of id, and reports whether there were any.
func (s *sweep) takeUploads(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.uploads[id]
	delete(s.uploads, id)
	return ok
}

// action tells what is due for r, "" for nothing.
func (s *sweep) action(r records.Record) Action {
	if !ValidID(r.ID) {
		s.unreadable()
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
		isDue = s.indexed || !stamp.Before(s.cleanSince)
	case records.Stored:
		if s.indexed {
			return ActionUnmark // others have stored it, and left its mark
		}
		return ""
	}
	if _, err := stamp.Time(); err != nil {
		if stamp.IsSet() {
			s.unreadable()
		}
		return ""
	}
	if !isDue {
		return ""
	}
	return action
}

func (s *sweep) unreadable() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.summary.Unreadable++
}

func (s *sweep) more() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.summary.More = true
}

// claim carries out the transition that is due. A zero Action in the answer means that nothing
// is to be done any more: the condition no longer held, or the upload is still going on.
func (s *sweep) claim(ctx context.Context, r due) Swept {
	done := r.swept(nil)
	var err error
	switch r.action {
	case ActionExpire:
		if !s.opts.DryRun {
			_, err = s.table.Expire(ctx, r.ID, records.At(s.now), records.At(s.dueBefore))
		}
	case ActionAbandon:
		done.Action, err = s.neverUploaded(ctx, r.ID)
	case ActionUnmark:
		if !s.opts.DryRun {
			_, err = s.table.UnmarkPending(ctx, r.ID, records.At(s.cleanSince))
		}
		if err = s.unmarkFailed(r.ID, err); err == nil {
			return Swept{} // nothing more is to be done, and nothing has happened to the file
		}
	}
	if _, lost := errors.AsType[*records.TransitionError](err); lost {
		return Swept{}
	}
	if errors.Is(err, records.ErrStopped) {
		s.timeOver()
		s.leave(r)
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
			// Not over what its uploader has written since: the time that he was told.
			_, err = s.table.Correct(ctx, id, "", upload)
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
		_, err = s.table.Abandon(ctx, id, records.At(s.now), records.At(s.abandonBefore))
	}
	return ActionAbandon, err
}

// inProgress reports whether a part of a multipart upload to id arrived so lately that the
// placeholder must be left to it: a large upload may take longer than a presigned URL lives, and
// the sweep must not take its record away.
func (s *sweep) inProgress(ctx context.Context, id string) (bool, error) {
	for _, u := range s.uploadsOf(id) {
		_, latest, err := s.client.Transfer.PartsOf(ctx, id, aws.ToString(u.UploadId))
		if err != nil && !errors.Is(err, transfer.ErrUploadGone) {
			return false, err
		}
		if !latest.Before(s.abandonBefore) || !aws.ToTime(u.Initiated).Before(s.abandonBefore) {
			return true, nil
		}
	}
	return false, nil
}

// listUploads asks once for all multipart uploads: usually there are none or few.
func (s *sweep) listUploads(ctx context.Context) error {
	s.uploads = make(map[string][]types.MultipartUpload)
	pages := s3.NewListMultipartUploadsPaginator(s.client.S3, &s3.ListMultipartUploadsInput{Bucket: &s.client.Bucket})
	for pages.HasMorePages() && !s.timeOver() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			if isUnlisted(err) {
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
	if len(ids) == 0 || s.timeOver() {
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
		if s.timeOver() {
			break
		}
		done := Swept{ID: id, Name: r.Name, Action: ActionAbort}
		if !s.opts.DryRun {
			abort := func() map[string]error { return map[string]error{id: s.client.abortUploads(ctx, id)} }
			failures, err := s.removeAudited(ctx, []Deletion{{ID: id, Name: r.Name, Size: -1, Action: ActionAbort}}, abort)
			if err != nil {
				return err
			}
			done.Err = failed(id, failures[id])
		}
		s.report(done)
	}
	return ctx.Err()
}

func (s *sweep) report(done Swept) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
