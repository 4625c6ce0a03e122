package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/pkg/twwidth"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

// output writes the results of one command to stdout, in one of four forms: a table for people,
// tab-separated for programs, JSON Lines, or ids only (docs/output.md).
type output struct {
	app     *app
	headers []string
	rows    [][]string // of the table, which needs all of them to align its columns
	written []func()   // what follows once the rows are written
	flow    *flow      // nil: the rows are kept until the end
	err     error      // the first failed write: nothing that follows can be shown
}

func newOutput(a *app) *output { return &output{app: a} }

// cell is one value, for people and for programs.
type cell struct {
	human   string
	machine string
}

func text(s string) cell { return cell{human: printable(s), machine: tsvField(s)} }

func size(bytes int64) cell {
	if bytes < 0 {
		return cell{}
	}
	return cell{human: iecSize(bytes), machine: strconv.FormatInt(bytes, 10)}
}

// stamp shows a time of a record; one that can't be read is shown as it is.
func stamp(s records.Stamp) cell {
	if !s.IsSet() {
		return cell{}
	}
	t, err := s.Time()
	if err != nil {
		return text(string(s))
	}
	return moment(t)
}

func moment(t time.Time) cell {
	if t.IsZero() {
		return cell{}
	}
	return cell{human: t.Local().Format("2006-01-02 15:04:05 MST"), machine: t.UTC().Format(time.RFC3339)}
}

// result is one line of output: a file, and what the command says of it.
type result struct {
	id    string // what -q prints
	cells []cell
	json  any

	written func() // is called once it is; may be nil
}

// columns names the columns of the results that follow.
func (o *output) columns(names ...string) { o.headers = names }

// add writes one result.
func (o *output) add(r result) {
	if o.err != nil {
		return
	}
	switch f := &o.app.flags; {
	case f.quiet:
		o.line(r.id)
	case f.json:
		o.jsonLine(r.json)
	case o.app.stdoutTTY:
		row := make([]string, len(r.cells))
		for i, c := range r.cells {
			row[i] = c.human
		}
		o.rows = append(o.rows, row)
		if r.written != nil {
			o.written = append(o.written, r.written)
		}
		if o.flow != nil && o.flow.due(len(o.rows)) {
			o.err = o.table()
		}
		return
	default:
		fields := make([]string, len(r.cells))
		for i, c := range r.cells {
			fields[i] = c.machine
		}
		o.line(strings.Join(fields, "\t"))
	}
	if o.err == nil && r.written != nil {
		r.written()
	}
}

// failure is a file that failed, in JSON.
type failure struct {
	ID    string       `json:"id,omitempty"`
	Path  string       `json:"path,omitempty"`
	Error failureCause `json:"error"`
}

type failureCause struct {
	Reason  client.Reason `json:"reason"`
	Message string        `json:"message"`
}

// fail reports that one file failed: on stderr always, and in JSON as a line of its own.
func (o *output) fail(id, path string, err error) {
	o.app.failItem(subject{id: id, path: path}, err)
	if !o.app.flags.json {
		return
	}
	cause := failureCause{Reason: reasonOf(err), Message: o.app.secrets.hide(describe(err))}
	if over := o.app.timeOver(); over != nil && cause.Reason == client.Interrupted {
		cause.Reason = client.Retry
		if !leavesTraces(err) {
			cause.Message = over.Error()
		}
	}
	o.jsonLine(failure{ID: id, Path: path, Error: cause})
}

// failItem reports the failure of one file on stderr. Of an interrupt the user knows, and the last
// line says so once, as it does of a time limit; not of what they left.
func (a *app) failItem(about subject, err error) {
	if reasonOf(err) != client.Interrupted || leavesTraces(err) {
		a.fail(about, err)
	} else if resumable, ok := errors.AsType[*resumableError](err); ok {
		a.hint(resumable.hint())
	} else if kept, ok := errors.AsType[*keptError](err); ok {
		a.hint(kept.hint())
	}
}

// leavesTraces reports whether a failed upload could not be undone.
func leavesTraces(err error) bool {
	if _, ok := errors.AsType[*client.UndoError](err); ok {
		return true
	}
	upload, ok := errors.AsType[*transfer.UploadError](err)
	return ok && upload.Leftover != nil
}

// reasonOf is client.ReasonOf for the errors of this package as well.
func reasonOf(err error) client.Reason {
	switch exitStatus(err) {
	case exitUsage:
		return client.Usage
	case exitConflict:
		return client.Conflict
	}
	return client.ReasonOf(err)
}

func (o *output) jsonLine(v any) {
	line, err := jsonText(v)
	if err != nil {
		o.err = errors.Join(o.err, err)
		return
	}
	o.line(line)
}

// jsonText is v as JSON in one line.
func jsonText(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // URLs stay readable
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return plainJSONText(strings.TrimSuffix(b.String(), "\n")), nil
}

// plainJSONText escapes what JSON leaves raw and moves a terminal, where it may end.
func plainJSONText(line string) string {
	// A raw message, as metadata is, passes the encoder with bytes that are no UTF-8.
	line = strings.ToValidUTF8(line, "\ufffd")
	return escapeRunes(line, isPlain, func(r rune) string {
		if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
			return fmt.Sprintf(`\u%04x\u%04x`, high, low)
		}
		return fmt.Sprintf(`\u%04x`, r)
	})
}

// document writes the one result of a command that prints a document: JSON for files and people,
// or with --json one line of it. There are no ids of which -q could print no more.
func (o *output) document(v any) {
	if o.app.flags.json {
		o.jsonLine(v)
		return
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		o.err = errors.Join(o.err, err)
		return
	}
	o.write(b.String())
}

func (o *output) line(s string) { o.write(s + "\n") }

func (o *output) write(s string) {
	if o.err != nil {
		return
	}
	write := func() {
		if _, err := io.WriteString(o.app.stdout, s); err != nil {
			o.err = fmt.Errorf("write the results: %w", err)
		}
	}
	if o.app.stdoutTTY {
		o.app.withoutBar(write)
	} else {
		write()
	}
}

// flow has a table written in pieces, for results of which there may be more than memory holds, or
// that take long to come.
type flow struct {
	widths  []int // of the columns that were written so far; nil: nothing was, the header neither
	written time.Time
}

// A piece of a table is written once there are so many rows, or with the first row after so long.
const (
	flowRows  = 500
	flowPause = time.Second
)

// stream has the table of the results that follow written in pieces. Its columns stay aligned as
// long as no later piece needs wider ones.
func (o *output) stream() { o.flow = &flow{written: time.Now()} }

func (f *flow) due(rows int) bool { return rows >= flowRows || time.Since(f.written) > flowPause }

// widen pads the first of rows, so that no column is narrower than before.
func (f *flow) widen(headers []string, rows [][]string) {
	if f.widths == nil {
		f.widths = make([]int, len(headers))
		for i, name := range headers {
			f.widths[i] = twwidth.Width(name)
		}
	}
	for i := range f.widths {
		for _, row := range rows {
			f.widths[i] = max(f.widths[i], twwidth.Width(row[i]))
		}
		rows[0][i] += strings.Repeat(" ", f.widths[i]-twwidth.Width(rows[0][i]))
	}
	f.written = time.Now()
}

// close ends the output. Its error says that not every result could be written.
func (o *output) close() error {
	if o.err == nil && len(o.rows) > 0 {
		o.err = o.table()
	}
	err := o.err
	o.rows, o.written, o.err = nil, nil, nil
	return err
}

// table writes the rows that are there.
func (o *output) table() error {
	var text strings.Builder
	table := tablewriter.NewTable(&text,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders:  tw.BorderNone,
			Settings: tw.Settings{Separators: tw.SeparatorsNone, Lines: tw.LinesNone},
		})),
		tablewriter.WithPadding(tw.Padding{Right: "  ", Overwrite: true}),
		tablewriter.WithHeaderAlignment(tw.AlignLeft),
		tablewriter.WithRowAlignment(tw.AlignLeft),
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithTrimSpace(tw.Off),
	)
	if o.flow == nil || o.flow.widths == nil {
		table.Header(o.headers)
	}
	if o.flow != nil {
		o.flow.widen(o.headers, o.rows)
	}
	for _, row := range o.rows {
		if err := table.Append(row); err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
	}
	o.rows = nil
	if err := table.Render(); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	for line := range strings.Lines(text.String()) {
		// The last column is padded too, and a long URL in one row would have every other wrap.
		o.line(strings.TrimRight(line, " \n"))
	}
	if o.err == nil {
		for _, follow := range o.written {
			follow()
		}
		o.written = nil
	}
	return o.err
}

// fileJSON is a file in JSON (docs/output.md). Fields are only ever added.
type fileJSON struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Type       string          `json:"type,omitempty"`
	Size       *int64          `json:"size,omitempty"` // bytes
	State      records.State   `json:"state"`
	Meta       json.RawMessage `json:"meta,omitempty"`
	CreatedAt  string          `json:"created_at,omitempty"` // RFC 3339, UTC
	UploadedAt string          `json:"uploaded_at,omitempty"`
	StoredAt   string          `json:"stored_at,omitempty"`
	DeletedAt  string          `json:"deleted_at,omitempty"`
	Malformed  []string        `json:"malformed,omitempty"` // attributes that break the contract
	Path       string          `json:"path,omitempty"`      // of the local file
	Verified   string          `json:"verified,omitempty"`  // the checksum that was compared
	URL        string          `json:"url,omitempty"`
	URLExpires string          `json:"url_expires_at,omitempty"`
	Content    string          `json:"fingerprint,omitempty"` // its fingerprint, as the record has it
	Existing   bool            `json:"existing,omitempty"`    // an upload that had nothing to send
	Checksum   *checksumJSON   `json:"checksum,omitempty"`    // that S3 holds
}

func newFileJSON(r records.Record) fileJSON {
	f := fileJSON{
		ID: r.ID, Name: r.Name, Type: r.Type, Meta: r.MetaJSON(), State: r.State(), Malformed: r.Malformed(),
		CreatedAt: stampJSON(r.CreatedAt), UploadedAt: stampJSON(r.UploadedAt),
		StoredAt: stampJSON(r.StoredAt), DeletedAt: stampJSON(r.DeletedAt), Content: r.Fingerprint,
	}
	if r.Size >= 0 {
		f.Size = &r.Size
	}
	return f
}

// checksumJSON is a checksum of an object in JSON.
type checksumJSON struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`
	Type      string `json:"type"`
}

func (f fileJSON) withChecksum(c transfer.Checksum) fileJSON {
	if c != (transfer.Checksum{}) {
		f.Checksum = new(checksumJSON(c))
	}
	return f
}

// checksum shows a checksum with its algorithm. That of parts has their number behind a dash.
func checksum(c transfer.Checksum) cell {
	if c == (transfer.Checksum{}) {
		return cell{}
	}
	return text(c.Algorithm + ":" + c.Value)
}

// stampJSON is a time in RFC 3339, or the text as it is: JSON has its own escapes.
func stampJSON(s records.Stamp) string {
	t, err := s.Time()
	if err != nil {
		return string(s)
	}
	return moment(t).machine
}

func (f fileJSON) withURL(u presign.URL) fileJSON {
	if u.URL != "" {
		f.URL, f.URLExpires = u.URL, u.Expires.UTC().Format(time.RFC3339)
	}
	return f
}
