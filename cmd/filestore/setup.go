package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
)

type initOptions struct {
	dryRun bool
	index  bool
}

func newInitCmd(a *app) *cobra.Command {
	opts := &initOptions{}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create the bucket and the table",
		Long: `Create what is missing of a filestore: the private bucket with its CORS rule, and the
table, billed per request. What is there already is left as it is. Where a server lacks a
call, as some servers other than AWS do, that is said and the rest goes on.

With --index the table has an index of the files that sweeps look at: see "filestore index".
In a table that is there already it is begun, and not waited for.

A local store needs no init: its first use makes it.`,
		Example: `  filestore init --bucket my-files --region eu-central-1 --dry-run
  filestore init --bucket my-files --region eu-central-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runInit(cmd.Context(), a, opts) },
	}
	cmd.Flags().BoolVar(&opts.dryRun, "dry-run", false, "print what would be done, and do nothing")
	cmd.Flags().BoolVar(&opts.index, "index", false, "with the index of pending files")
	return cmd
}

// stepJSON is one part of a filestore in JSON (docs/output.md).
type stepJSON struct {
	Part  string            `json:"part"`
	Name  string            `json:"name"`
	State client.SetupState `json:"state"`
}

func runInit(ctx context.Context, a *app, opts *initOptions) (err error) {
	a.out.columns("PART", "NAME", "STATE")
	report := func(s client.SetupStep) {
		a.out.add(result{
			id:    s.Name,
			cells: []cell{text(s.Part), text(s.Name), text(string(s.State))},
			json:  stepJSON(s),
		})
	}
	s, err := a.settings()
	if err != nil {
		return err
	}
	if s.local {
		return a.initLocal(ctx, s, opts, report)
	}
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	if err := store.InitBucket(ctx, store.region, opts.dryRun, report); err != nil {
		return err
	}
	ensure := store.table.EnsureTable
	if opts.index {
		ensure = store.table.EnsureIndexedTable
	}
	created, err := ensure(ctx, opts.dryRun)
	if err != nil {
		return err
	}
	report(client.SetupStep{Part: "table", Name: store.tableName, State: setupState(created, opts.dryRun)})
	if !opts.index {
		return nil
	}
	if !created {
		if created, err = ensureIndex(ctx, store.Records, opts.dryRun); err != nil {
			return err
		}
	}
	report(client.SetupStep{Part: "index", Name: dynamo.PendingIndex, State: setupState(created, opts.dryRun)})
	return nil
}

func setupState(created, dryRun bool) client.SetupState {
	switch {
	case created && dryRun:
		return client.SetupWouldCreate
	case created:
		return client.SetupCreated
	}
	return client.SetupExists
}

// ensureIndex begins to make the index of pending files if it is not there; created says that it was not.
func ensureIndex(ctx context.Context, table records.Table, dryRun bool) (created bool, err error) {
	if !dryRun {
		return table.CreateIndex(ctx)
	}
	index, err := table.Index(ctx)
	return index.State == records.IndexNone, err
}

// initLocal makes a local store, as its first use would.
func (a *app) initLocal(ctx context.Context, s settings, opts *initOptions, report func(client.SetupStep)) error {
	dir, err := s.localDir()
	if err != nil {
		return err
	}
	state := client.SetupExists
	if entries, err := os.ReadDir(dir); errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		state = client.SetupCreated
		if opts.dryRun {
			state = client.SetupWouldCreate
		}
	}
	indexed := true // where there is no store yet, there is no index
	if state != client.SetupWouldCreate {
		store, err := a.openLocal(ctx, s)
		if err != nil {
			return err
		}
		if opts.index {
			indexed, err = ensureIndex(ctx, store.Records, opts.dryRun)
		}
		if err := errors.Join(err, store.close()); err != nil {
			return err
		}
	}
	report(client.SetupStep{Part: "local store", Name: dir, State: state})
	if opts.index {
		report(client.SetupStep{Part: "index", Name: dynamo.PendingIndex, State: setupState(indexed, opts.dryRun)})
	}
	return nil
}
