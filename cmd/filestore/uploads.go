package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/state"
)

func newUploadsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uploads",
		Short: "List uploads that are half done",
		Long: `List the uploads in parts that are going on or broke off: how many bytes are there, since
when, and, where this machine remembers it, of which file. "filestore upload --resume PATH"
goes on with one; "filestore uploads abort" removes it.

A MinIO server that was started anew lists only those that this machine remembers.`,
		Example: `  filestore uploads
  filestore uploads abort --older-than 24h --dry-run
  filestore uploads -q | filestore uploads abort -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runUploads(cmd.Context(), a) },
	}
	cmd.AddCommand(newUploadsAbortCmd(a))
	return cmd
}

// uploadJSON is an upload that is half done in JSON (docs/output.md).
type uploadJSON struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Size     int64  `json:"size"`       // bytes that are there
	Started  string `json:"started_at"` // RFC 3339, UTC
	Latest   string `json:"latest_at"`
	UploadID string `json:"upload_id"`
	Path     string `json:"path,omitempty"`
}

func runUploads(ctx context.Context, a *app) (err error) {
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	remembered, err := a.remembered(store)
	if err != nil {
		return err
	}
	a.out.columns("ID", "NAME", "SIZE", "STARTED", "PATH")
	for u, err := range store.Uploads(ctx, remembered.ids()) {
		if err != nil {
			return err
		}
		// One file may have several uploads under its id; the path belongs to one of them.
		var path string
		if e := remembered.byID[u.ID]; e.UploadID == u.UploadID {
			path = e.Path
		}
		a.out.add(result{
			id:    u.ID,
			cells: []cell{text(u.ID), text(u.Record.Name), size(u.Size), moment(u.Started), text(path)},
			json: uploadJSON{
				ID: u.ID, Name: u.Record.Name, Size: u.Size, Path: path, UploadID: u.UploadID,
				Started: moment(u.Started).machine, Latest: moment(u.Latest).machine,
			},
		})
	}
	return nil
}

// remembered is what this machine knows of half-done uploads to one filestore.
type remembered struct {
	uploads *state.Uploads
	entries []state.UploadEntry // the oldest first
	byID    map[string]state.UploadEntry
}

func (a *app) remembered(fs *filestore) (*remembered, error) {
	r := &remembered{byID: make(map[string]state.UploadEntry)}
	dir, err := state.Dir(a.lookupEnv)
	if err != nil {
		return r, nil //nolint:nilerr // without a place to remember nothing is remembered
	}
	r.uploads = state.FindUploads(dir)
	if r.entries, err = r.uploads.All(fs.identity); err != nil {
		return nil, err
	}
	for _, e := range r.entries {
		r.byID[e.ID] = e
	}
	return r, nil
}

func (r *remembered) ids() []string {
	var ids []string
	for _, e := range r.entries {
		ids = append(ids, e.ID)
	}
	return ids
}

type uploadsAbortOptions struct {
	ids       []string
	olderThan duration
	dryRun    bool
}

func newUploadsAbortCmd(a *app) *cobra.Command {
	opts := &uploadsAbortOptions{}
	cmd := &cobra.Command{
		Use:   "abort [ID...]",
		Short: "Remove uploads that are half done",
		Long: `Remove what is half done of uploads in parts: the parts, and the record where that is
still a placeholder. Either the ids are named, or all go of which no part has come for a
time. An upload that is going on fails; one that a process of this machine is sending is
left alone.`,
		Example: `  filestore uploads abort 3p1xk0s9d2mfa7qz
  filestore uploads abort --older-than 24h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.ids = args
			return runUploadsAbort(cmd.Context(), a, opts)
		},
	}
	flags := cmd.Flags()
	flags.Var(&opts.olderThan, "older-than", "all of which no part has come for so long")
	flags.BoolVar(&opts.dryRun, "dry-run", false, "print what would be done, and do nothing")
	return cmd
}

func runUploadsAbort(ctx context.Context, a *app, opts *uploadsAbortOptions) (err error) {
	byAge := a.flags.changed("older-than")
	switch {
	case byAge == (len(opts.ids) > 0):
		return usagef(`"filestore uploads" lists them; --older-than 24h is for all that nobody goes on with`,
			"name the uploads, or say --older-than: one of the two")
	case byAge && opts.olderThan <= 0:
		return usagef("", "--older-than must be more than zero")
	}
	ids := opts.ids
	if !byAge {
		if ids, err = a.readIDs(ctx, opts.ids); err != nil {
			return err
		}
		seen := make(map[string]bool, len(ids))
		ids = slices.DeleteFunc(ids, func(id string) bool {
			twice := seen[id]
			seen[id] = true
			return twice
		})
	}
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	remembered, err := a.remembered(store)
	if err != nil {
		return err
	}
	if byAge {
		if ids, err = olderUploads(ctx, store.Client, remembered, time.Duration(opts.olderThan)); err != nil {
			return err
		}
	}

	a.out.columns("ID", "NAME", "ACTION")
	var t tally
	for r := range client.InOrder(ctx, ids, abortsAtOnce, func(ctx context.Context, id string) aborted {
		return abortOne(ctx, store.Client, remembered, id, opts.dryRun)
	}) {
		switch {
		case r.err == nil:
			t.ok()
			a.out.add(result{
				id:    r.id,
				cells: []cell{text(r.id), text(r.record.Name), text(string(client.ActionAbort))},
				json:  sweptJSON{ID: r.id, Name: r.record.Name, Action: client.ActionAbort, DryRun: opts.dryRun},
			})
		case byAge && (errors.Is(r.err, state.ErrLocked) || client.ReasonOf(r.err) == client.NotFound):
			// Somebody goes on with it, or it has ended in the meantime.
		default:
			t.fail(r.err)
			a.out.fail(r.id, "", r.err)
		}
	}
	return t.result()
}

// abortsAtOnce is how many uploads are aborted at the same time.
const abortsAtOnce = 16

type aborted struct {
	id     string
	record records.Record
	err    error
}

// abortOne removes what is half done of one file, and what this machine remembers of it.
func abortOne(ctx context.Context, c *client.Client, remembered *remembered, id string, dryRun bool) (done aborted) {
	done.id = id
	entry, known := remembered.byID[id]
	if !known {
		done.record, done.err = c.AbortUpload(ctx, id, false, dryRun)
		return done
	}
	journal, err := remembered.uploads.Lock(entry.Filestore, entry.Path)
	if err != nil {
		done.err = err
		return done
	}
	defer func() { done.err = errors.Join(done.err, journal.Close()) }()
	entry, known = journal.Entry()
	known = known && entry.ID == id
	done.record, done.err = c.AbortUpload(ctx, id, known, dryRun)
	// What is no placeholder any more is nothing to go on with.
	over := done.err != nil && client.ReasonOf(done.err) == client.NotFound &&
		(done.record.ID == "" || done.record.State() != records.Placeholder)
	if known && !dryRun && (done.err == nil || over) {
		done.err = errors.Join(done.err, journal.Remove())
	}
	return done
}

// olderUploads returns the ids of all uploads of which no part has come for the time age, each once, and
// of those that this machine remembers to have begun before that and the bucket does not know.
func olderUploads(ctx context.Context, c *client.Client, remembered *remembered, age time.Duration) ([]string, error) {
	limit := c.Now().Add(-age)
	latest := make(map[string]time.Time)
	var ids []string
	seen := func(id string, at time.Time) {
		if before, ok := latest[id]; !ok {
			ids = append(ids, id)
		} else if at.Before(before) {
			return
		}
		latest[id] = at
	}
	for _, e := range remembered.entries {
		seen(e.ID, e.Begun)
	}
	for u, err := range c.Uploads(ctx, remembered.ids()) {
		if err != nil {
			return nil, err
		}
		seen(u.ID, u.Latest)
	}
	return slices.DeleteFunc(ids, func(id string) bool { return !latest[id].Before(limit) }), nil
}
