package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

func newIndexCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "index",
		Short: "Manage the index by which sweeps find what is pending",
		Long: `Manage the index of pending files, which a table may have or not. It holds what waits to be
uploaded, to be stored or to be removed, and nothing else. With it "expire" reads that
alone, and costs the same however large the table is.

Every command keeps the index up to date by itself. The HTTP API does not: what it makes is
found by "expire --full", or put into the index by "index backfill".`,
		Example: `  filestore index create
  filestore index status`,
		RunE: runGroup,
	}
	cmd.AddCommand(newIndexCreateCmd(a), newIndexStatusCmd(a), newIndexBackfillCmd(a), newIndexDropCmd(a))
	return cmd
}

type indexOptions struct{ wait bool }

func (o *indexOptions) register(cmd *cobra.Command, until string) {
	cmd.Flags().BoolVar(&o.wait, "wait", true, "wait until the index "+until)
}

func newIndexCreateCmd(a *app) *cobra.Command {
	opts := &indexOptions{}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make the index, unless it is there",
		Long: `Make the index of pending files, unless it is there, and wait until it can be read. Meanwhile
everything goes on as before. That takes minutes, or for a large table hours; after Ctrl-C
it is made all the same.

The table fills it from the records that are marked as pending. In a table of an older
version, or with files of the HTTP API, "index backfill" before this one is the cheaper
order: what needs no mark then never comes into the index.`,
		Example: `  filestore index backfill --max-rcu 500 --max-wcu 200
  filestore index create --wait=false`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.changeIndex(cmd.Context(), opts, "making the index", (*client.Client).CreateIndex, "the index was there already")
		},
	}
	opts.register(cmd, "can be read")
	return cmd
}

func newIndexDropCmd(a *app) *cobra.Command {
	opts := &indexOptions{}
	cmd := &cobra.Command{
		Use:   "drop",
		Short: "Remove the index",
		Long: `Remove the index of pending files. No file and no record is touched: sweeps read the whole
table again. It can be made anew.`,
		Example: `  filestore index drop`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.changeIndex(cmd.Context(), opts, "removing the index", (*client.Client).DropIndex, "there was no index")
		},
	}
	opts.register(cmd, "is gone")
	return cmd
}

func newIndexStatusCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show whether there is an index, and how large it is",
		Long: `Show whether there is an index of pending files, whether it can be read, and how large it is.
DynamoDB tells how large it was up to six hours ago; a local store does not tell.`,
		Example: `  filestore index status --json`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runIndexStatus(cmd.Context(), a) },
	}
}

// indexJSON is the index in JSON (docs/output.md).
type indexJSON struct {
	Name        string             `json:"name"`
	State       records.IndexState `json:"state"`
	Backfilling bool               `json:"backfilling"`
	Records     *int64             `json:"records,omitempty"`
	Bytes       *int64             `json:"bytes,omitempty"`
}

func runIndexStatus(ctx context.Context, a *app) (err error) {
	fs, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.close()) }()
	index, err := fs.Records.Index(ctx)
	if err != nil {
		return err
	}
	a.addIndex(index)
	return nil
}

// changeIndex makes or removes the index by change, and shows what it is then like.
func (a *app) changeIndex(
	ctx context.Context, opts *indexOptions, what string,
	change func(*client.Client, context.Context, client.IndexOptions) (bool, records.Index, error), nothing string,
) (err error) {
	fs, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.close()) }()
	told := time.Now()
	changed, index, err := change(fs.Client, ctx, client.IndexOptions{Wait: opts.wait, Progress: func(i records.Index) {
		if !a.flags.quiet && time.Since(told) >= plainInterval {
			told = time.Now()
			a.message("progress", "%s: %s", what, describeIndex(i))
		}
	}})
	if err != nil {
		return err
	}
	if !changed {
		a.note("%s", nothing)
	}
	a.addIndex(index)
	return nil
}

func describeIndex(i records.Index) string {
	if i.Backfilling {
		return string(i.State) + ", it is being filled from the table"
	}
	return string(i.State)
}

func (a *app) addIndex(i records.Index) {
	a.out.columns("INDEX", "STATE", "BACKFILLING", "RECORDS", "SIZE")
	row := indexJSON{Name: i.Name, State: i.State, Backfilling: i.Backfilling}
	var count cell
	if i.Records >= 0 {
		row.Records = &i.Records
		number := fmt.Sprint(i.Records)
		count = cell{human: thousands(number), machine: number}
	}
	if i.Bytes >= 0 {
		row.Bytes = &i.Bytes
	}
	backfilling := "no"
	if i.Backfilling {
		backfilling = "yes"
	}
	a.out.add(result{
		id:    i.Name,
		cells: []cell{text(i.Name), text(string(i.State)), text(backfilling), count, size(i.Bytes)},
		json:  row,
	})
}

type indexBackfillOptions struct {
	dryRun bool
	maxWCU float64
	scan   scanFlags
}

func newIndexBackfillCmd(a *app) *cobra.Command {
	opts := &indexBackfillOptions{}
	cmd := &cobra.Command{
		Use:   "backfill",
		Short: "Put into the index what others have made without it",
		Long: `Read the whole table, and put into the index of pending files what belongs there and was made
without it: by the HTTP API, or by an older version of this program. What others have
stored, and what was deleted more than a day ago, is taken out of it.

It may run at any time, before there is an index too, and once more after it broke off: only
what is wrong is written. A local store needs none of it.`,
		Example: `  filestore index backfill --dry-run
  filestore index backfill --max-rcu 500 --max-wcu 200`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runIndexBackfill(cmd.Context(), a, opts) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&opts.dryRun, "dry-run", false, "print what would be done, and do nothing")
	opts.scan.register(flags)
	flags.Float64Var(&opts.maxWCU, "max-wcu", 0, "write at most `N` capacity units a second (default: no limit)")
	return cmd
}

func runIndexBackfill(ctx context.Context, a *app, opts *indexBackfillOptions) (err error) {
	reads, err := opts.scan.meter()
	if err != nil {
		return err
	}
	writes, err := meter("max-wcu", opts.maxWCU)
	if err != nil {
		return err
	}
	fs, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.close()) }()

	a.out.columns("ID", "NAME", "ACTION")
	a.out.stream()
	stop := a.showReads(ctx, reads)
	defer stop()
	var t tally
	summary, err := fs.Backfill(ctx, client.BackfillOptions{
		DryRun: opts.dryRun, Segments: opts.scan.segments, Reads: reads, Writes: writes,
		Report: a.sweptReport(&t, opts.dryRun),
	})
	a.warnUnreadable(summary.Unreadable)
	if err != nil {
		return err
	}
	defer func() {
		a.noteReads(fs, reads)
		a.noteWrites(fs, writes)
	}()
	if !a.flags.quiet && !a.flags.json {
		line := describeBackfill(summary)
		if !opts.dryRun {
			a.out.line(line)
			return t.result()
		}
		if err := a.out.close(); err != nil {
			return err
		}
		a.message("note", "dry run: %s", line)
	}
	return t.result()
}

// describeBackfill is the one line that a backfill prints.
func describeBackfill(s client.BackfillSummary) string {
	line := fmt.Sprintf("%d put into the index, %d taken out of it", s.Marked, s.Unmarked)
	if s.Failed > 0 {
		line += fmt.Sprintf(", %d failed", s.Failed)
	}
	return line
}
