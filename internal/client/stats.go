package client

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/designfultech/filestore/internal/records"
)

const (
	// StatsDays is how many days of uploads [Client.Stats] tells apart: today, and those before it.
	StatsDays = 30
	// StatsTypes is how many types it names.
	StatsTypes = 20

	// countedTypes is how many different types are counted, and typeBytes how long they may be, so that
	// a table full of nonsense takes no more than a few megabytes. Those that come later, or are
	// longer, are among the others.
	countedTypes = 10_000
	typeBytes    = 255
)

// StatsOptions choose how [Client.Stats] reads.
type StatsOptions struct {
	// Segments is how many parts of the table are read at once; 0: [DefaultSegments].
	Segments int
	// Reads counts what reading the table costs, and may limit its rate. May be nil.
	Reads *records.Meter
}

// Count is a number of files, and of the bytes in them. A file without a size has none.
type Count struct {
	Files int64
	Bytes int64
}

// add counts r. Sizes are what somebody wrote: a sum that no number holds stays at the largest.
func (c *Count) add(r records.Record) { c.sum(Count{Files: 1, Bytes: max(r.Size, 0)}) }

func (c *Count) sum(other Count) {
	c.Files += other.Files
	c.Bytes += min(other.Bytes, math.MaxInt64-c.Bytes)
}

// TypeCount counts the files of a type.
type TypeCount struct {
	Type string
	Count
}

// DayCount counts the files of a day.
type DayCount struct {
	Day time.Time // its midnight, UTC
	Count
}

// Stats are the files of a filestore, counted. The bytes are those that the records tell.
type Stats struct {
	Records int64
	States  map[records.State]Count // every state; those of deleted files are in the bucket no more

	// Types counts the files that are there, temporary and stored, by type: the StatsTypes types with the
	// most bytes, in descending order, and all others.
	Types      []TypeCount
	OtherTypes Count

	// Days counts uploads, whatever has become of the files since, by day of uploaded_at (UTC): the last
	// StatsDays days, the last one today. Earlier and Later are those before and after them; what
	// has no time that can be read is in none.
	Days    []DayCount
	Earlier Count
	Later   Count

	// OldestTemporary is the temporary file that was uploaded first; nil: there is none.
	OldestTemporary *records.Record
	// Overdue counts what the next sweep will remove: temporary files and placeholders.
	OverdueTemporary   Count
	OverduePlaceholder int64
	// Undated is how many placeholders have no created_at that can be read: no sweep removes them.
	Undated int64
	// Malformed is how many records break the contract somewhere.
	Malformed int64
}

// Stats counts the files in one pass over all records, in bounded memory.
func (c *Client) Stats(ctx context.Context, opts StatsOptions) (Stats, error) {
	now := c.Now()
	due, abandoned := c.dueBefore(now, 0)
	counter := counter{
		today: midnight(now), due: due, abandoned: abandoned,
		types: make(map[string]*Count),
		stats: Stats{States: make(map[records.State]Count), Days: make([]DayCount, StatsDays)},
	}
	for i := range counter.stats.Days {
		counter.stats.Days[i].Day = counter.today.AddDate(0, 0, i-StatsDays+1)
	}
	for _, s := range []records.State{records.Placeholder, records.Temporary, records.Stored, records.Deleted} {
		counter.stats.States[s] = Count{}
	}
	// With meta, so that a malformed one is counted too. It costs time, and no more units.
	scan := records.ScanOptions{Segments: cmp.Or(opts.Segments, DefaultSegments), Meta: true, Meter: opts.Reads}
	for page, err := range c.Records.Scan(ctx, records.Filter{}, scan) {
		if err != nil {
			return Stats{}, fmt.Errorf("read the records: %w", err)
		}
		for _, r := range page {
			counter.add(r)
		}
	}
	counter.rankTypes()
	return counter.stats, nil
}

type counter struct {
	stats          Stats
	today          time.Time
	due, abandoned time.Time // temporary files uploaded, placeholders created before it are overdue
	types          map[string]*Count
	other          Count
}

func (c *counter) add(r records.Record) {
	s := &c.stats
	s.Records++
	if r.Malformed() != nil {
		s.Malformed++
	}
	state := r.State()
	count := s.States[state]
	count.add(r)
	s.States[state] = count

	switch state {
	case records.Temporary:
		c.temporary(r)
		c.countType(r)
	case records.Stored:
		c.countType(r)
	case records.Placeholder:
		if _, err := r.CreatedAt.Time(); err != nil {
			s.Undated++
		} else if r.CreatedAt.Before(c.abandoned) {
			s.OverduePlaceholder++
		}
	case records.Deleted:
	}
	if t, err := r.UploadedAt.Time(); err == nil {
		c.day(t).add(r)
	}
}

func (c *counter) temporary(r records.Record) {
	t, err := r.UploadedAt.Time()
	if err != nil {
		return
	}
	if t.Before(c.due) {
		c.stats.OverdueTemporary.add(r)
	}
	if oldest := c.stats.OldestTemporary; oldest != nil {
		than, err := oldest.UploadedAt.Time()
		if err == nil && (than.Before(t) || than.Equal(t) && oldest.ID < r.ID) {
			return
		}
	}
	c.stats.OldestTemporary = &r
}

func (c *counter) countType(r records.Record) {
	count := c.types[r.Type]
	switch {
	case count != nil:
	case len(c.types) < countedTypes && len(r.Type) <= typeBytes:
		count = new(Count)
		c.types[r.Type] = count
	default:
		count = &c.other
	}
	count.add(r)
}

// day is where an upload at t is counted.
func (c *counter) day(t time.Time) *Count {
	switch ago := int(c.today.Sub(midnight(t)) / (24 * time.Hour)); {
	case ago < 0:
		return &c.stats.Later
	case ago >= StatsDays:
		return &c.stats.Earlier
	default:
		return &c.stats.Days[StatsDays-1-ago].Count
	}
}

func (c *counter) rankTypes() {
	ranked := make([]TypeCount, 0, len(c.types))
	for name, count := range c.types {
		ranked = append(ranked, TypeCount{name, *count})
	}
	slices.SortFunc(ranked, func(a, b TypeCount) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Files, a.Files), strings.Compare(a.Type, b.Type))
	})
	named := min(len(ranked), StatsTypes)
	for _, t := range ranked[named:] {
		c.other.sum(t.Count)
	}
	c.stats.Types, c.stats.OtherTypes = slices.Clone(ranked[:named]), c.other
}

func midnight(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
