package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
)

type expireOptions struct {
	olderThan   duration
	dryRun      bool
	max         int
	maxDuration duration
	maxWCU      float64
	full        bool
	scan        scanFlags
	audit       string
	metrics     string
}

func newExpireCmd(a *app) *cobra.Command {
	opts := &expireOptions{}
	cmd := &cobra.Command{
		Use:   "expire",
		Short: "Remove temporary files that nobody stored",
		Long: `Remove what is due: temporary files that nobody stored in time, and placeholders that never
got an upload. The objects of files deleted within the last 24 hours are deleted once more,
which finishes what a killed command left; multipart uploads that nobody goes on with are
aborted.

All records are read for it, or, where "index create" has made one, the index of those that
are pending alone. That does not know the files of the HTTP API: --full reads all records
all the same, and should run once a day.

It may run at any time, also twice at once: a file that somebody stores meanwhile stays.
With -q nothing is printed unless something fails, as cron wants it.

After --max-duration it begins nothing new, finishes what is under way and, unless all was
done, says so and ends with status 7. Each run takes the parts of the table in another
order, so that none is always left over.`,
		Example: `  filestore expire
  filestore expire --dry-run --older-than 15m
  filestore expire --max-duration 20m --max-rcu 500 --max-wcu 200
  filestore expire --metrics-file /var/lib/node_exporter/filestore.prom --audit /var/log/filestore/audit.jsonl
  */30 * * * * filestore expire -q            # crontab
  15 3 * * * filestore expire -q --full       # beside it, where there is an index`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runExpire(cmd.Context(), a, opts) },
	}
	flags := cmd.Flags()
	flags.Var(&opts.olderThan, "older-than", "age from which temporary files are removed (default: --temporary-lifetime)")
	flags.BoolVar(&opts.dryRun, "dry-run", false, "print what would be done, and do nothing")
	flags.IntVar(&opts.max, "max", 0, "remove at most `N` files (0: no limit)")
	flags.Var(&opts.maxDuration, "max-duration", "begin nothing new after this time (default: no limit)")
	flags.BoolVar(&opts.full, "full", false, "read all records, though there is an index of those that are pending")
	opts.scan.register(flags)
	registerAudit(flags, &opts.audit)
	flags.StringVar(&opts.metrics, "metrics-file", "", "write what was done to `FILE`, for Prometheus [FILESTORE_METRICS_FILE]")
	flags.Float64Var(&opts.maxWCU, "max-wcu", 0, "write at most `N` capacity units a second (default: no limit)")
	return cmd
}

// sweptJSON is one file of a sweep in JSON (docs/output.md).
type sweptJSON struct {
	ID     string        `json:"id"`
	Name   string        `json:"name"`
	Action client.Action `json:"action"`
	DryRun bool          `json:"dry_run,omitempty"`
}

// runExpire sweeps, and writes the metrics of what it did, also where it failed.
func runExpire(ctx context.Context, a *app, opts *expireOptions) error {
	run := sweepRun{begun: time.Now()}
	err := sweepStore(ctx, a, opts, &run)
	path := a.setting("metrics-file", opts.metrics, "FILESTORE_METRICS_FILE")
	if path == "" || opts.dryRun { // which does nothing
		return err
	}
	if failed := a.writeMetrics(path, &run, a.statusOf(err)); failed != nil {
		err = errors.Join(err, failed)
	}
	return err
}

func sweepStore(ctx context.Context, a *app, opts *expireOptions, run *sweepRun) (err error) {
	if a.flags.changed("older-than") && opts.olderThan <= 0 {
		return usagef("", "--older-than must be more than zero")
	}
	if opts.max < 0 {
		return usagef("", "--max must not be negative")
	}
	if a.flags.changed("max-duration") && opts.maxDuration <= 0 {
		return usagef("", "--max-duration must be more than zero")
	}
	if run.reads, err = opts.scan.meter(); err != nil {
		return err
	}
	if run.writes, err = meter("max-wcu", opts.maxWCU); err != nil {
		return err
	}
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	if !opts.dryRun {
		if err := a.audit(store, opts.audit, "expire"); err != nil {
			return err
		}
	}

	a.out.columns("ID", "NAME", "ACTION")
	var t tally
	run.summary, err = store.Expire(ctx, client.ExpireOptions{
		OlderThan: time.Duration(opts.olderThan), DryRun: opts.dryRun, Max: opts.max, MaxDuration: time.Duration(opts.maxDuration),
		Full: opts.full, Segments: opts.scan.segments, Reads: run.reads, Writes: run.writes,
		Report: a.sweptReport(&t, opts.dryRun),
	})
	summary := run.summary
	run.whole = err == nil && !summary.Unfinished
	a.warnSwept(summary)
	if err != nil {
		return err
	}
	defer func() {
		if summary.Indexed {
			a.note("%s", describeIndexed(store.local != nil, run.reads.Total()))
		} else {
			a.noteReads(store, run.reads)
		}
		a.noteWrites(store, run.writes)
	}()
	switch line := describeSweep(summary, opts.dryRun); {
	case a.flags.quiet:
	case a.log != nil: // which is where a program that reads it looks
		a.say(message{kind: "note", text: line, attrs: run.attrs()})
	case a.flags.json:
	case opts.dryRun:
		if err := a.out.close(); err != nil {
			return err
		}
		a.message("note", "%s", line)
	default:
		a.out.line(line)
	}
	if summary.Unfinished {
		return errors.Join(t.result(), &unfinishedError{time.Duration(opts.maxDuration)})
	}
	return t.result()
}

// sweptReport returns what counts and prints the files of a sweep, or of a backfill.
func (a *app) sweptReport(t *tally, dryRun bool) func(client.Swept) {
	return func(s client.Swept) {
		if s.Err != nil {
			t.fail(s.Err)
			a.out.fail(s.ID, "", s.Err)
			return
		}
		t.ok()
		if s.Action == client.ActionClean || !a.flags.json && !dryRun || a.flags.quiet {
			return
		}
		a.out.add(result{
			id:    s.ID,
			cells: []cell{text(s.ID), text(s.Name), text(string(s.Action))},
			json:  sweptJSON{ID: s.ID, Name: s.Name, Action: s.Action, DryRun: dryRun},
		})
	}
}

// warnSwept tells of what a sweep could not look at.
func (a *app) warnSwept(s client.Summary) {
	if s.Unlisted != nil {
		a.message("warning", "multipart uploads were left alone, since they can't be listed: %s", describe(s.Unlisted))
	}
	if s.Unindexed != nil {
		a.remark(subject{}, "all records were read, since the index of those that are pending can't be: %s", describe(s.Unindexed))
	}
	a.warnUnreadable(s.Unreadable)
}

// warnUnreadable tells of records that were met and left alone.
func (a *app) warnUnreadable(n int) {
	if n > 0 {
		a.message("warning", "%s left alone, since their ids or times can't be read", plural(n, "record was", "records were"))
	}
}

// attrs are the numbers of a run, for a log.
func (r *sweepRun) attrs() []slog.Attr {
	s := r.summary
	return []slog.Attr{
		slog.Int("expired", s.Expired), slog.Int("abandoned", s.Abandoned), slog.Int("settled", s.Settled),
		slog.Int("cleaned", s.Cleaned), slog.Int("aborted", s.Aborted), slog.Int("failed", s.Failed),
		slog.Int("unreadable", s.Unreadable), slog.Int("left", s.Left),
		slog.Float64("read_units", r.reads.Total().Units), slog.Float64("write_units", r.writes.Total().Units),
		slog.Float64("seconds", time.Since(r.begun).Seconds()),
	}
}

// unfinishedError says that a sweep came to the end of its time before that of the table.
type unfinishedError struct{ limit time.Duration }

func (e *unfinishedError) Error() string {
	return fmt.Sprintf("the %s of --max-duration were over before all records were looked at: more files may be due", shortDuration(e.limit))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// describeSweep is the one line that a sweep prints.
func describeSweep(s client.Summary, dryRun bool) string {
	parts := []string{fmt.Sprintf("%d expired", s.Expired)}
	for _, p := range []struct {
		n    int
		text string
	}{
		{s.Abandoned, "never uploaded"},
		{s.Settled, "found to be uploaded"},
		{s.Cleaned, "cleaned again"},
		{s.Aborted, "multipart uploads aborted"},
		{s.Failed, "failed"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.text))
		}
	}
	line := strings.Join(parts, ", ")
	if s.More {
		line += "; more may be due"
	}
	if dryRun {
		line = "dry run: " + line
	}
	return line
}
