package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
)

// serverLog has what a server logs written as messages of the command: of each request one of the kind "request",
// which --quiet leaves away, and what goes wrong as errors and warnings.
type serverLog struct {
	app   *app
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (l *serverLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || level >= slog.LevelInfo && !l.app.flags.quiet
}

// Handle implements slog.Handler.
func (l *serverLog) Handle(_ context.Context, r slog.Record) error {
	m := message{kind: "request", text: r.Message, attrs: slices.Clone(l.attrs)}
	switch {
	case r.Level >= slog.LevelError:
		m.kind = "error"
	case r.Level >= slog.LevelWarn:
		m.kind = "warning"
	}
	r.Attrs(func(attr slog.Attr) bool {
		switch {
		case attr.Value.Kind() == slog.KindDuration:
			attr = slog.Float64("seconds", attr.Value.Duration().Seconds()) // as of a sweep
		case attr.Key == "status":
			attr.Key = "http_status" // the status of a record is that of the command
		}
		m.attrs = append(m.attrs, attr)
		return true
	})
	if l.app.log == nil {
		m.text = plainLine(m)
	}
	l.app.say(m)
	return nil
}

// plainLine is a message with its fields as text: of a request they say all.
func plainLine(m message) string {
	var parts []string
	if m.kind != "request" {
		parts = append(parts, strings.TrimRight(m.text, "\n"))
	}
	for _, attr := range m.attrs {
		if value := attr.Value.String(); value != "" {
			// A path is what the caller has sent, and must not look like fields of ours.
			if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' }) {
				value = strconv.Quote(value)
			}
			parts = append(parts, fmt.Sprintf("%s=%s", attr.Key, value))
		}
	}
	return strings.Join(parts, " ")
}

// WithAttrs implements slog.Handler.
func (l *serverLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &serverLog{app: l.app, attrs: append(slices.Clip(l.attrs), attrs...)}
}

// WithGroup implements slog.Handler. Nothing here has groups.
func (l *serverLog) WithGroup(string) slog.Handler { return l }
