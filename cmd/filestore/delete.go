package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/records"
)

type deleteOptions struct {
	args  []string
	audit string
}

func newDeleteCmd(a *app) *cobra.Command {
	opts := &deleteOptions{}
	cmd := &cobra.Command{
		Use:   "delete ID...",
		Short: "Delete files for good",
		Long: `Delete files for good. The record stays, with the time of its deletion.

Deleting a deleted file succeeds, keeps its first time, and deletes the object again: a
delete that broke off is finished by saying it again. With "-" ids are read from standard
input, one a line.`,
		Example: `  filestore delete 3p1xk0s9d2mfa7qz
  cut -f1 old-files.tsv | filestore delete --audit deleted.jsonl -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.args = args
			return runDelete(cmd.Context(), a, opts)
		},
	}
	registerAudit(cmd.Flags(), &opts.audit)
	return cmd
}

func runDelete(ctx context.Context, a *app, opts *deleteOptions) (err error) {
	fs, ids, err := a.openWithIDs(ctx, opts.args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.close()) }()
	if err := a.audit(fs, opts.audit, "delete"); err != nil {
		return err
	}
	return a.printRecords(fs.Delete(ctx, ids), func(r records.Record) cell { return stamp(r.DeletedAt) }, "DELETED")
}
