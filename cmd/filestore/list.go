package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

type listOptions struct {
	states stateList
	since  pointInTime
	until  pointInTime
	by     momentName
	name   string
	meta   []string
	limit  int
	sort   sortOrder
	scan   scanFlags
}

func newListCmd(a *app) *cobra.Command {
	opts := &listOptions{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List files, in whatever state",
		Long: `List the files of the filestore, in whatever state: all of them, or those for which
everything holds that is asked for. They are printed as they are found, in no order.

--since and --until compare the time of the upload; of a file that was never uploaded the
time at which its placeholder was made; or the time that --by names. --since is included,
--until is not. A TIME is a date (2026-11-23, its midnight UTC), a time in RFC 3339
(2026-11-23T14:50:17Z), or how long ago it was (90s, 24h, 7d).

NAME is compared with GLOB as a whole: * stands for any characters but /, ? for one, [a-z]
for one of these.

All records are read for it, whatever is asked for. At the end it says what that cost. Only
--limit without --sort ends the reading early. --sort keeps what it sorts in memory: as many
files as --limit says, or up to 1,000,000.`,
		Example: `  filestore list --state temporary,placeholder --since 24h
  filestore list --name '*.pdf' --meta branch=main --json
  filestore list --state stored --sort size:desc --limit 20
  filestore list -q --state temporary --until 2026-11-01 | filestore store -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runList(cmd.Context(), a, opts) },
	}
	flags := cmd.Flags()
	flags.Var(&opts.states, "state", "only files in this `STATE`: placeholder, temporary, stored, deleted; or in one of several, with commas")
	flags.Var(&opts.since, "since", "only files from this `TIME` on")
	flags.Var(&opts.until, "until", "only files from before this `TIME`")
	flags.Var(&opts.by, "by", "the time that --since and --until compare: created, uploaded, stored or deleted (default: of the upload, or else creation)")
	flags.StringVar(&opts.name, "name", "", "only files whose name matches this `GLOB`")
	flags.StringArrayVar(&opts.meta, "meta", nil, "only files with this metadata, `key=value`; may be repeated")
	flags.IntVar(&opts.limit, "limit", 0, "at most `N` files (0: no limit)")
	flags.Var(&opts.sort, "sort", "order by `FIELD[:desc]`: "+strings.Join(client.SortFields(), ", "))
	opts.scan.register(flags)
	return cmd
}

func runList(ctx context.Context, a *app, opts *listOptions) (err error) {
	now := time.Now()
	since, until := opts.since.at(now), opts.until.at(now)
	meta, err := opts.check(since, until)
	if err != nil {
		return err
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

	a.out.columns("ID", "NAME", "SIZE", "TYPE", "STATE", "UPLOADED", "STORED", "DELETED", "META", "CREATED")
	a.out.stream()
	stop := a.showReads(ctx, reads)
	defer stop()
	for r, err := range fs.List(ctx, client.ListOptions{
		States: opts.states, By: records.Moment(opts.by), Since: since, Until: until,
		Name: opts.name, Meta: meta, Sort: opts.sort.compare, Limit: opts.limit,
		WithoutMeta: a.flags.quiet && len(meta) == 0, Segments: opts.scan.segments, Reads: reads,
	}) {
		if errors.Is(err, client.ErrTooManyToSort) {
			return usagef("say --limit N, or sort the output of --json with another program", "--sort: %w", err)
		}
		if err != nil {
			return err
		}
		if bad := r.Malformed(); bad != nil {
			a.warn(subject{id: r.ID}, "the record is malformed: %v", bad)
		}
		a.out.add(result{
			id: r.ID,
			cells: []cell{
				text(r.ID), text(r.Name), size(r.Size), text(r.Type), text(string(r.State())),
				stamp(r.UploadedAt), stamp(r.StoredAt), stamp(r.DeletedAt), text(r.Meta), stamp(r.CreatedAt),
			},
			json: newFileJSON(r),
		})
		// Whoever reads the results may have seen enough: nothing more is read then.
		if a.out.err != nil {
			return nil // close returns it
		}
	}
	if err := a.out.close(); err != nil {
		return err
	}
	a.noteReads(fs, reads)
	return nil
}

// check looks at the flags and returns the metadata.
func (o *listOptions) check(since, until time.Time) (map[string]string, error) {
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return nil, usagef("", "--since %s is not before --until %s", o.since.text, o.until.text)
	}
	if o.by != "" && since.IsZero() && until.IsZero() {
		return nil, usagef("", "--by names the time that --since and --until compare, and neither is given")
	}
	if o.limit < 0 {
		return nil, usagef("", "--limit must not be negative")
	}
	if o.sort.compare != nil && o.limit > client.MaxSorted {
		return nil, usagef("", "--limit must be at most %s with --sort", thousands(fmt.Sprint(client.MaxSorted)))
	}
	if _, err := path.Match(o.name, ""); err != nil {
		return nil, usagef(`a backslash makes *, ? and [ plain characters`, "--name %q: %w", o.name, err)
	}
	return parseMeta(o.meta)
}

// stateList is a flag: states, with commas between them.
type stateList []records.State

// Set implements pflag.Value. The flag may be repeated.
func (l *stateList) Set(s string) error {
	for name := range strings.SplitSeq(s, ",") {
		state := records.State(name)
		if !slices.Contains(statesInOrder(), state) {
			return fmt.Errorf("%q is none of placeholder, temporary, stored, deleted", name)
		}
		*l = addNew(*l, state)
	}
	return nil
}

func (l *stateList) String() string { return joinNames(*l, ",") }

// Type implements pflag.Value.
func (l *stateList) Type() string { return "states" }

// momentName is a flag: the name of a time of a record.
type momentName records.Moment

// Set implements pflag.Value.
func (m *momentName) Set(s string) error {
	if !slices.Contains([]records.Moment{records.ByCreated, records.ByUploaded, records.ByStored, records.ByDeleted}, records.Moment(s)) {
		return fmt.Errorf("%q is none of created, uploaded, stored, deleted", s)
	}
	*m = momentName(s)
	return nil
}

func (m *momentName) String() string { return string(*m) }

// Type implements pflag.Value.
func (m *momentName) Type() string { return "TIME" }

// sortOrder is a flag: a field, and the direction.
type sortOrder struct {
	text    string
	compare func(a, b records.Record) int // nil: not set
}

// Set implements pflag.Value.
func (o *sortOrder) Set(s string) error {
	field, direction, _ := strings.Cut(s, ":")
	if direction != "" && direction != "asc" && direction != "desc" || strings.HasSuffix(s, ":") {
		return fmt.Errorf("%q is neither asc nor desc", direction)
	}
	compare, err := client.SortBy(field, direction == "desc")
	if err != nil {
		return err
	}
	o.text, o.compare = s, compare
	return nil
}

func (o *sortOrder) String() string { return o.text }

// Type implements pflag.Value.
func (o *sortOrder) Type() string { return "order" }

// pointInTime is a flag: a date, a time, or how long ago it was.
type pointInTime struct {
	text     string
	absolute time.Time
	ago      time.Duration
}

// Set implements pflag.Value.
func (p *pointInTime) Set(s string) error {
	// The form of the records is without a zone: it is UTC as well.
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && !t.IsZero() {
			*p = pointInTime{text: s, absolute: t}
			return nil
		}
	}
	ago, err := parseDuration(s)
	// A bare number could be a year.
	if bare := strings.Trim(s, "+-0123456789") == ""; err != nil || bare {
		return fmt.Errorf("%q is no time such as 2026-11-23, 2026-11-23T14:50:17Z or, for how long ago it was, 24h or 7d", s)
	}
	if ago < 0 {
		return fmt.Errorf("%q is not in the past", s)
	}
	*p = pointInTime{text: s, ago: ago}
	return nil
}

func (p *pointInTime) String() string { return p.text }

// Type implements pflag.Value.
func (p *pointInTime) Type() string { return "time" }

// at is the time that p means; zero where p is not set.
func (p *pointInTime) at(now time.Time) time.Time {
	if p.text == "" || !p.absolute.IsZero() {
		return p.absolute
	}
	return now.Add(-p.ago)
}
