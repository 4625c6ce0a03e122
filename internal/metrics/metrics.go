// Package metrics writes what a run of a command has measured into a file, in the text format of
// Prometheus, from which the textfile collector of node_exporter takes it.
package metrics

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/designfultech/filestore/internal/atomicfile"
)

// Label is one label of a series.
type Label struct{ Name, Value string }

// File is a file of metrics that is being made, on top of what the run before has written to it: a
// command that ends has no other place for a counter to go on from.
type File struct {
	path     string
	labels   []Label
	earlier  map[string]float64 // by series, as it is written
	families []*family
}

// family is all series of one name.
type family struct {
	name, help, kind string
	series           []string
	values           []float64
}

// Open reads what the run before has left at path, which may be nothing: a file that is not there
// or can't be understood is as good as none. All series have the labels.
func Open(path string, labels ...Label) (*File, error) {
	f := &File{path: path, labels: labels, earlier: make(map[string]float64)}
	// The end is a rename, which would replace a device too.
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "replace", Path: path, Err: errors.New("not a regular file")}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		// All of them are numbers of things and times. NaN and infinity would stay for ever: every run adds to them.
		if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil && v >= 0 && !math.IsInf(v, 0) {
			f.earlier[line[:i]] = v
		}
	}
	return f, nil
}

// Gauge adds a value of this run.
func (f *File) Gauge(name, help string, value float64, labels ...Label) {
	f.add(name, help, "gauge", value, labels)
}

// Keep adds a gauge with the value that it had, 0 where it had none.
func (f *File) Keep(name, help string, labels ...Label) {
	f.add(name, help, "gauge", f.earlier[f.series(name, labels)], labels)
}

// Counter adds what this run has counted to what all runs before it have.
func (f *File) Counter(name, help string, counted float64, labels ...Label) {
	f.add(name, help, "counter", f.earlier[f.series(name, labels)]+counted, labels)
}

func (f *File) add(name, help, kind string, value float64, labels []Label) {
	var in *family
	for _, known := range f.families {
		if known.name == name {
			in = known
		}
	}
	if in == nil {
		in = &family{name: name, help: help, kind: kind}
		f.families = append(f.families, in)
	}
	in.series = append(in.series, f.series(name, labels))
	in.values = append(in.values, value)
}

// series is the name and the labels, as they stand in the file.
func (f *File) series(name string, labels []Label) string {
	var b strings.Builder
	b.WriteString(name)
	separator := "{"
	for _, all := range [][]Label{f.labels, labels} {
		for _, l := range all {
			fmt.Fprintf(&b, `%s%s="%s"`, separator, l.Name, labelEscapes().Replace(l.Value))
			separator = ","
		}
	}
	if separator == "," {
		b.WriteByte('}')
	}
	return b.String()
}

// labelEscapes are those of the format ("Exposition formats", Prometheus documentation).
func labelEscapes() *strings.Replacer {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
}

// Text is the file in the text format.
func (f *File) Text() string {
	var b strings.Builder
	for _, m := range f.families {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
		for i, series := range m.series {
			fmt.Fprintf(&b, "%s %s\n", series, strconv.FormatFloat(m.values[i], 'f', -1, 64))
		}
	}
	return b.String()
}

// Close writes the file, whole or not at all. All users can read it, since collectors run as users of
// their own. What is being written has a name that the collector passes over.
func (f *File) Close() error {
	return atomicfile.Write(f.path, []byte(f.Text()), 0o644)
}
