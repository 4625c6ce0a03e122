package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// logFormat is the value of --log-format: how messages are written to standard error.
type logFormat string

const (
	logText logFormat = "text" // one line each, for people
	logJSON logFormat = "json" // one JSON object each, for a collector of logs
)

// Set implements pflag.Value.
func (f *logFormat) Set(s string) error {
	switch logFormat(s) {
	case logText, logJSON:
		*f = logFormat(s)
		return nil
	}
	return fmt.Errorf("%q is neither text nor json", s)
}

func (f *logFormat) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *logFormat) Type() string { return "string" }

// startLog decides how messages are written from now on.
func (a *app) startLog(cmd *cobra.Command) error {
	format := a.flags.logFormat
	if text, ok := a.lookupEnv("FILESTORE_LOG_FORMAT"); ok && text != "" && !a.flags.changed("log-format") {
		if err := format.Set(text); err != nil {
			return usagef("", "FILESTORE_LOG_FORMAT: %w", err)
		}
	}
	a.setLog(format, cmd)
	return nil
}

// startLogOf is startLog for a command line that could not be read: what it asks for is told in the
// form that it asks for all the same.
func (a *app) startLogOf(args []string, cmd *cobra.Command) {
	format := logText
	if text, ok := a.lookupEnv("FILESTORE_LOG_FORMAT"); ok {
		_ = format.Set(text) // what is wrong with the command line is told first
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	flags.Var(&format, "log-format", "")
	_ = flags.Parse(args)
	a.setLog(format, cmd)
}

func (a *app) setLog(format logFormat, cmd *cobra.Command) {
	if format != logJSON {
		return
	}
	log := slog.New(slog.NewJSONHandler(plainJSON{a.stderr, a.secrets.hide}, &slog.HandlerOptions{ReplaceAttr: logTime}))
	if _, name, ok := strings.Cut(cmd.CommandPath(), " "); ok {
		log = log.With("command", name)
	}
	a.mu.Lock() // whoever waits to say that the program is still there may have begun before
	defer a.mu.Unlock()
	a.log = log
}

// logTime writes the time of a record as all times in JSON are written: RFC 3339 in UTC.
func logTime(groups []string, attr slog.Attr) slog.Attr {
	if len(groups) == 0 && attr.Key == slog.TimeKey {
		attr.Value = slog.StringValue(attr.Value.Time().UTC().Format(milliseconds))
	}
	return attr
}

// milliseconds is RFC 3339 with as many digits always.
const milliseconds = "2006-01-02T15:04:05.000Z07:00"

// plainJSON escapes what JSON leaves raw, and a terminal must not get; and it hides what is secret.
type plainJSON struct {
	w    io.Writer
	hide func(string) string
}

func (p plainJSON) Write(line []byte) (int, error) {
	text, end := strings.CutSuffix(string(line), "\n")
	text = plainJSONText(p.hide(text))
	if end {
		text += "\n"
	}
	if _, err := io.WriteString(p.w, text); err != nil {
		return 0, err
	}
	return len(line), nil
}

// message is one message on standard error.
type message struct {
	kind string // error, warning, hint, note or progress
	subject
	text  string
	hint  string      // what can be done about it
	attrs []slog.Attr // more of it for machines: in JSON only
}

// subject is what a message is about: a file with its id or its path, or with neither the command.
type subject struct{ id, path string }

// log writes m as a record of a structured log (docs/output.md, "Standard error").
func (m message) log(log *slog.Logger) {
	level := slog.LevelInfo
	switch m.kind {
	case "error":
		level = slog.LevelError
	case "warning":
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("kind", m.kind)}
	for _, field := range []struct{ name, value string }{{"id", m.id}, {"path", m.path}, {"hint", m.hint}} {
		if field.value != "" {
			attrs = append(attrs, slog.String(field.name, field.value))
		}
	}
	log.LogAttrs(context.Background(), level, m.text, append(attrs, m.attrs...)...)
}

// logEnd ends the log of a command of which items failed: the last record of a command that fails
// has its exit status. People have seen the failures.
func (a *app) logEnd(e *itemsError) {
	if a.log == nil {
		return
	}
	a.say(message{kind: "error", text: fmt.Sprintf("%d of %d failed", e.failed, e.failed+e.done), attrs: []slog.Attr{
		slog.Int("failed", e.failed), slog.Int("done", e.done), slog.Int("status", e.status),
	}})
}
