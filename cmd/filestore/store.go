package main

import (
	"context"
	"errors"
	"iter"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

type storeOptions struct {
	args []string
}

func newStoreCmd(a *app) *cobra.Command {
	opts := &storeOptions{}
	return &cobra.Command{
		Use:   "store ID...",
		Short: "Make files permanent",
		Long: `Make temporary files permanent, so that no sweep removes them.

Storing a stored file succeeds and changes nothing. A file that has expired or was deleted
can't be stored any more. With "-" ids are read from standard input, one a line.`,
		Example: `  filestore store 3p1xk0s9d2mfa7qz
  filestore upload -q *.pdf | filestore store -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.args = args
			return runStore(cmd.Context(), a, opts)
		},
	}
}

func runStore(ctx context.Context, a *app, opts *storeOptions) (err error) {
	fs, ids, err := a.openWithIDs(ctx, opts.args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.close()) }()
	if fs.Settings.StoreOnLoad {
		return usagef("files of this filestore need no store", "%w", client.ErrStoreOnLoad)
	}
	return a.printRecords(fs.Store(ctx, ids), func(r records.Record) cell { return stamp(r.StoredAt) }, "STORED")
}

// printRecords prints what became of records, with the time that the command is about.
func (a *app) printRecords(results iter.Seq[client.Result[records.Record]], at func(records.Record) cell, column string) error {
	a.out.columns("ID", "NAME", "SIZE", "STATE", column)
	var t tally
	for r := range results {
		if r.Err != nil {
			t.fail(r.Err)
			a.out.fail(r.ID, "", r.Err)
			continue
		}
		t.ok()
		a.out.add(result{
			id:    r.ID,
			cells: []cell{text(r.ID), text(r.Value.Name), size(r.Value.Size), text(string(r.Value.State())), at(r.Value)},
			json:  newFileJSON(r.Value),
		})
	}
	return t.result()
}
