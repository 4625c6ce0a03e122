package main

import (
	"cmp"
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/olekukonko/tablewriter/pkg/twwidth"
	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

type statsOptions struct {
	scan scanFlags
}

func newStatsCmd(a *app) *cobra.Command {
	opts := &statsOptions{}
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Count files and bytes by state, type and day",
		Long: `Count the files of the filestore and the bytes in them: by state; by type, those that are
there; and by the day of their upload (UTC), the last 30 days. Further how old the oldest
temporary file is, what the next "expire" will remove, how many placeholders have no age and
are never removed, and how many records are malformed.

All records are read for it. At the end it says what that cost.`,
		Example: `  filestore stats
  filestore stats --json | jq '.states.temporary.files'
  filestore stats --max-rcu 200`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStats(cmd.Context(), a, opts) },
	}
	opts.scan.register(cmd.Flags())
	return cmd
}

func runStats(ctx context.Context, a *app, opts *statsOptions) (err error) {
	reads, err := opts.scan.meter()
	if err != nil {
		return err
	}
	fs, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.close()) }()

	stop := a.showReads(ctx, reads)
	stats, err := fs.Stats(ctx, client.StatsOptions{Segments: opts.scan.segments, Reads: reads})
	stop()
	if err != nil {
		return err
	}
	switch {
	case a.flags.json:
		a.out.jsonLine(newStatsJSON(stats, reads.Total()))
	case a.stdoutTTY:
		a.out.write(a.chart(stats))
	default:
		for _, r := range statsRows(stats) {
			a.out.line(r.fields())
		}
	}
	if err := a.out.close(); err != nil {
		return err
	}
	a.noteReads(fs, reads)
	return nil
}

// statsRow is one line of numbers: for people a bar, for programs tab-separated.
type statsRow struct {
	group string
	key   string
	files int64
	bytes int64 // -1: these have none
	noBar bool  // it would dwarf the others
}

func (r statsRow) fields() string {
	return strings.Join([]string{r.group, tsvField(r.key), strconv.FormatInt(r.files, 10), size(r.bytes).machine}, "\t")
}

func countRow(group, key string, c client.Count) statsRow {
	return statsRow{group: group, key: key, files: c.Files, bytes: c.Bytes}
}

func statesInOrder() []records.State {
	return []records.State{records.Placeholder, records.Temporary, records.Stored, records.Deleted}
}

func statsRows(s client.Stats) []statsRow {
	var rows []statsRow
	for _, state := range statesInOrder() {
		rows = append(rows, countRow("state", string(state), s.States[state]))
	}
	for _, t := range s.Types {
		rows = append(rows, countRow("type", t.Type, t.Count))
	}
	for _, d := range s.Days {
		rows = append(rows, countRow("day", d.Day.Format(time.DateOnly), d.Count))
	}
	rows = append(rows,
		countRow("other", "types", s.OtherTypes),
		countRow("other", "earlier", s.Earlier),
		countRow("other", "later", s.Later),
	)
	if r := s.OldestTemporary; r != nil {
		rows = append(rows, statsRow{group: "oldest", key: stamp(r.UploadedAt).machine, files: 1, bytes: r.Size})
	}
	return append(rows,
		countRow("overdue", string(records.Temporary), s.OverdueTemporary),
		statsRow{group: "overdue", key: string(records.Placeholder), files: s.OverduePlaceholder, bytes: -1},
		statsRow{group: "undated", key: string(records.Placeholder), files: s.Undated, bytes: -1},
		statsRow{group: "malformed", key: "records", files: s.Malformed, bytes: -1},
	)
}

// countJSON is a number of files in JSON (docs/output.md).
type countJSON struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

type typeJSON struct {
	Type string `json:"type"`
	countJSON
}

type dayJSON struct {
	Day string `json:"day"`
	countJSON
}

type readJSON struct {
	Requests int64   `json:"requests"`
	Records  int64   `json:"records"`
	Units    float64 `json:"units"`
}

// statsJSON is what stats prints in JSON (docs/output.md). Fields are only ever added.
type statsJSON struct {
	Records    int64                       `json:"records"`
	States     map[records.State]countJSON `json:"states"`
	Types      []typeJSON                  `json:"types"`
	OtherTypes countJSON                   `json:"other_types"`
	Days       []dayJSON                   `json:"days"`
	Earlier    countJSON                   `json:"earlier"`
	Later      countJSON                   `json:"later"`
	Oldest     *fileJSON                   `json:"oldest_temporary,omitempty"`
	Overdue    struct {
		Temporary   countJSON `json:"temporary"`
		Placeholder struct {
			Files int64 `json:"files"`
		} `json:"placeholder"`
	} `json:"overdue"`
	Undated   int64    `json:"undated_placeholders"`
	Malformed int64    `json:"malformed"`
	Read      readJSON `json:"read"`
}

func newStatsJSON(s client.Stats, read records.Cost) statsJSON {
	out := statsJSON{
		Records: s.Records, States: make(map[records.State]countJSON),
		Types: []typeJSON{}, OtherTypes: countJSON(s.OtherTypes),
		Days: []dayJSON{}, Earlier: countJSON(s.Earlier), Later: countJSON(s.Later),
		Undated: s.Undated, Malformed: s.Malformed, Read: readJSON(read),
	}
	for state, c := range s.States {
		out.States[state] = countJSON(c)
	}
	for _, t := range s.Types {
		out.Types = append(out.Types, typeJSON{t.Type, countJSON(t.Count)})
	}
	for _, d := range s.Days {
		out.Days = append(out.Days, dayJSON{d.Day.Format(time.DateOnly), countJSON(d.Count)})
	}
	if s.OldestTemporary != nil {
		out.Oldest = new(newFileJSON(*s.OldestTemporary))
	}
	out.Overdue.Temporary = countJSON(s.OverdueTemporary)
	out.Overdue.Placeholder.Files = s.OverduePlaceholder
	return out
}

// chart is the numbers for people: a table with bars for each group, and lines for the rest.
func (a *app) chart(s client.Stats) string {
	var states, types, days []statsRow
	for _, r := range statsRows(s) {
		switch r.group {
		case "state":
			states = append(states, r)
		case "type":
			r.key = cmp.Or(r.key, "(none)")
			types = append(types, r)
		case "day":
			if len(days) > 0 || r.files > 0 { // from the first day with an upload on
				days = append(days, r)
			}
		}
	}
	if s.OtherTypes.Files > 0 {
		types = append(types, countRow("type", "(other)", s.OtherTypes))
	}
	if s.Earlier.Files > 0 {
		days = append([]statsRow{{key: "earlier", files: s.Earlier.Files, bytes: s.Earlier.Bytes, noBar: true}}, days...)
	}
	if s.Later.Files > 0 {
		days = append(days, statsRow{key: "later", files: s.Later.Files, bytes: s.Later.Bytes, noBar: true})
	}
	c := chart{width: a.columns(), ascii: a.isDumb() || !a.isUTF8()}
	c.group("STATE", states)
	c.group("TYPE (not deleted)", types)
	c.group("UPLOADED (UTC)", days)

	oldest := "none"
	if r := s.OldestTemporary; r != nil {
		oldest = printable(r.ID) + ", uploaded " + stamp(r.UploadedAt).human
	}
	c.line("oldest temporary file", oldest)
	c.line(`"expire" will remove`, thousandsOf(s.OverdueTemporary.Files, "temporary file", "temporary files")+
		" ("+iecSize(s.OverdueTemporary.Bytes)+"), "+thousandsOf(s.OverduePlaceholder, "placeholder", "placeholders"))
	c.line("placeholders of unknown age", thousands(strconv.FormatInt(s.Undated, 10)))
	c.line("malformed records", thousands(strconv.FormatInt(s.Malformed, 10)))
	return c.text.String()
}

// isUTF8 reports whether the locale has block characters. Where none is set, as in many
// containers, terminals are UTF-8 all the same.
func (a *app) isUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value, _ := a.lookupEnv(name); value != "" {
			value = strings.ToLower(value)
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return true
}

// chart draws groups of rows for a terminal.
type chart struct {
	width int // of the terminal
	ascii bool
	text  strings.Builder
}

const (
	longestKey  = 40 // characters of a type, more are cut
	shortestKey = 15
	numbers     = 30 // columns for what is beside a type
	longestBar  = 60
	shortBar    = 5 // where less is left, there is none
)

// group draws rows with bars of their bytes, or of their files where no row has bytes.
func (c *chart) group(title string, rows []statsRow) {
	if len(rows) == 0 {
		return
	}
	keyWidth, filesWidth, bytesWidth := twwidth.Width(title), len("FILES"), len("BYTES")
	var most statsRow
	for i, r := range rows {
		rows[i].key = c.cut(printable(r.key))
		keyWidth = max(keyWidth, twwidth.Width(rows[i].key))
		filesWidth = max(filesWidth, len(thousands(strconv.FormatInt(r.files, 10))))
		bytesWidth = max(bytesWidth, len(iecSize(r.bytes)))
		if !r.noBar {
			most.files, most.bytes = max(most.files, r.files), max(most.bytes, r.bytes)
		}
	}
	row := func(key, files, bytes, bar string) {
		line := key + strings.Repeat(" ", keyWidth-twwidth.Width(key)) +
			"  " + strings.Repeat(" ", filesWidth-len(files)) + files +
			"  " + strings.Repeat(" ", bytesWidth-len(bytes)) + bytes + "  " + bar
		c.text.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	// The last column stays free: some terminals wrap there.
	width := min(c.width-1-keyWidth-filesWidth-bytesWidth-6, longestBar)
	row(title, "FILES", "BYTES", "")
	for _, r := range rows {
		part := float64(r.bytes) / float64(most.bytes)
		if most.bytes == 0 {
			part = float64(r.files) / max(float64(most.files), 1)
		}
		if r.noBar {
			part = 0
		}
		row(r.key, thousands(strconv.FormatInt(r.files, 10)), iecSize(r.bytes), c.bar(part, width))
	}
	c.text.WriteString("\n")
}

func (c *chart) cut(key string) string {
	longest := min(max(c.width-numbers, shortestKey), longestKey)
	if twwidth.Width(key) <= longest {
		return key
	}
	dots := "…"
	if c.ascii {
		dots = "..."
	}
	return twwidth.Truncate(key, longest-len([]rune(dots))) + dots
}

// bar is a bar for a part of 1. What is not nothing can be seen.
func (c *chart) bar(part float64, width int) string {
	if part <= 0 || width < shortBar {
		return ""
	}
	if c.ascii {
		return strings.Repeat("#", max(int(math.Round(part*float64(width))), 1))
	}
	const eighths = "▏▎▍▌▋▊▉"
	n := max(int(math.Round(part*float64(width)*8)), 1)
	bar := strings.Repeat("█", n/8)
	if n%8 > 0 {
		bar += string([]rune(eighths)[n%8-1])
	}
	return bar
}

func (c *chart) line(name, value string) {
	const width = len("placeholders of unknown age")
	c.text.WriteString(name + strings.Repeat(" ", width-len(name)) + "  " + value + "\n")
}
