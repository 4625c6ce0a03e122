package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
)

type initOptions struct {
	dryRun bool
}

func newInitCmd(a *app) *cobra.Command {
	opts := &initOptions{}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create the bucket and the table",
		Long: `Create what is missing of a filestore: the private bucket with its CORS rule, and the
table, billed per request. What is there already is left as it is. Where a server lacks a
call, as some servers other than AWS do, that is said and the rest goes on.

A local store needs no init: its first use makes it.`,
		Example: `  filestore init --bucket my-files --region eu-central-1 --dry-run
  filestore init --bucket my-files --region eu-central-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runInit(cmd.Context(), a, opts) },
	}
	cmd.Flags().BoolVar(&opts.dryRun, "dry-run", false, "print what would be done, and do nothing")
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
	created, err := store.table.EnsureTable(ctx, opts.dryRun)
	if err != nil {
		return err
	}
	state := client.SetupExists
	switch {
	case created && opts.dryRun:
		state = client.SetupWouldCreate
	case created:
		state = client.SetupCreated
	}
	report(client.SetupStep{Part: "table", Name: store.tableName, State: state})
	return nil
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
	if state != client.SetupWouldCreate {
		store, err := a.openLocal(ctx, s)
		if err != nil {
			return err
		}
		if err := store.close(); err != nil {
			return err
		}
	}
	report(client.SetupStep{Part: "local store", Name: dir, State: state})
	return nil
}
