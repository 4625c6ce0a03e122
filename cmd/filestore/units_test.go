package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/smithy-go"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"3600": time.Hour, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour, "0": 0, "-5": -5 * time.Second,
	} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "1x", "1.5d", "99999999999", "-99999999999d", "1h-"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func TestShortDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{"1h": time.Hour, "1m": time.Minute, "1h1m": 61 * time.Minute, "1h0m1s": time.Hour + time.Second, "10s": 10 * time.Second, "0s": 0} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]byteSize{"0": 0, "17": 17, "17B": 17, "8M": 8 << 20, "8MiB": 8 << 20, "5G": 5 << 30, "1T": 1 << 40, "3K": 3072} {
		var got byteSize
		if err := got.Set(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "1.5M", "8X", "8MM", "9999999999G", "8 M", "8BM"} {
		var got byteSize
		if err := got.Set(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

func TestByteRate(t *testing.T) {
	for text, want := range map[string]byteRate{"0": 0, "8M": 8 << 20, "8M/s": 8 << 20, "500K": 500 << 10, "500KiB/s": 500 << 10, "1000000": 1_000_000} {
		var got byteRate
		if err := got.Set(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "/s", "M/s", "-1K", "1.5M", "8Mbit", "8M/h", "8M/s/s", "fast"} {
		var got byteRate
		if err := got.Set(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

func TestIECSize(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 5 << 40: "5.0 TiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := iecSize(bytes); got != want {
			t.Errorf("%d is written %q, want %q", bytes, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain name.txt": "plain name.txt", "日本語": "日本語", "a\x1b[31mb": `a\x1b[31mb`, "line\nbreak": `line\nbreak`,
		"tab\t": `tab\t`, "\xff": `\xff`, "a\u202egpj": `a\u202egpj`, "\u0085": `\u0085`, "\ufffd": "\ufffd", "\x7f": `\x7f`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}

// A read that waits for somebody who says nothing ends with its context.
func TestInterruptible(t *testing.T) {
	silent, writer := io.Pipe()
	defer writer.Close()
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{stdin: silent}
	done := make(chan error, 1)
	go func() {
		_, err := a.readIDs(ctx, []string{"-"})
		done <- err
	}()
	_, _ = io.WriteString(writer, "abcdefghij012345\n") // from here on it waits for more
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// A write that nobody reads ends soon after its context has.
func TestPatientWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader, writer := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		w := &patientWriter{ctx: ctx, w: writer}
		go func() { _, _ = io.ReadFull(reader, make([]byte, 4)) }()
		if n, err := w.Write([]byte("read")); n != 4 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		cancel()
		go func() { _, _ = io.ReadFull(reader, make([]byte, 4)) }()
		if n, err := w.Write([]byte("late")); n != 4 || err != nil {
			t.Errorf("what is still read was not written: %d, %v", n, err)
		}
		begin := time.Now()
		for range 2 {
			if _, err := w.Write([]byte("lost")); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		}
		if waited := time.Since(begin); waited != outputGrace {
			t.Errorf("waited %v", waited)
		}
		_ = writer.Close() // ends the write that was left behind
	})
}

// One bad record does not break the line of JSON that it is in.
func TestJSONOfBadMeta(t *testing.T) {
	for _, meta := range []string{"{\"a\":\"\xff\"}", "no JSON", "{\"a\":1}}", "\xff", "{\"a\":\n1}", "[1]"} {
		var stdout strings.Builder
		o := newOutput(&app{stdout: &stdout, flags: globalFlags{json: true}})
		o.add(result{json: newFileJSON(records.Record{ID: "abcdefghij012345", Size: -1, Meta: meta})})
		line := stdout.String()
		if !json.Valid([]byte(line)) || strings.Count(line, "\n") != 1 || !utf8.ValidString(line) {
			t.Errorf("meta %q gives %q", meta, line)
		}
	}
}

func TestIsEndpoint(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"": true, "http://127.0.0.1:9000": true, "https://s3.example.com/base": true,
		"localhost:9000": false, "http://u:secret@h:port": false, "ftp://h": false, "http://": false, "nonsense": false,
	} {
		if got := isEndpoint(endpoint); got != want {
			t.Errorf("%q: %v", endpoint, got)
		}
	}
}

// What goes wrong beside the files is reported too, however deep it was joined.
func TestReportBesideItems(t *testing.T) {
	var stderr strings.Builder
	a := &app{stderr: &stderr}
	items := &itemsError{status: exitPartial}
	if status := a.report(errors.Join(errors.Join(errors.Join(items, errors.New("close failed")), nil), nil)); status != exitPartial {
		t.Errorf("status %d", status)
	}
	if got, want := stderr.String(), "filestore: error: close failed\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

// Whatever a name holds, neither a terminal nor a program that splits lines and tabs is misled.
func FuzzEscapes(f *testing.F) {
	for _, seed := range []string{"", "a\tb", "a\nb", "\x1b]0;title\x07", "\xff\xfe", `\n`, "\u2028"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range printable(s) {
			if r != ' ' && !unicode.IsPrint(r) {
				t.Errorf("%q is shown with %q", s, r)
			}
		}
		field := tsvField(s)
		if strings.ContainsFunc(field, unicode.IsControl) || !utf8.ValidString(field) {
			t.Errorf("%q becomes the field %q", s, field)
		}
		if utf8.ValidString(s) && unescape(field) != s {
			t.Errorf("%q can't be read back from the field %q", s, field)
		}
	})
}

// unescape reads a field back as docs/output.md describes it.
func unescape(field string) string {
	var b strings.Builder
	for len(field) > 0 {
		if field[0] != '\\' {
			r, n := utf8.DecodeRuneInString(field)
			b.WriteRune(r)
			field = field[n:]
			continue
		}
		n := 2
		switch c := field[1]; c {
		case 'x':
			n = 4
		case 'u':
			n = 6
		case 'U':
			n = 10
		}
		if n == 2 {
			b.WriteByte(map[byte]byte{'\\': '\\', 't': '\t', 'n': '\n', 'r': '\r', 'a': '\a', 'b': '\b', 'f': '\f', 'v': '\v'}[field[1]])
		} else {
			var code rune
			for _, h := range field[2:n] {
				code = code<<4 | rune(strings.IndexRune("0123456789abcdef", h))
			}
			b.WriteRune(code)
		}
		field = field[n:]
	}
	return b.String()
}

// Of the SDK's layers the service, the operation and the cause are kept, wherever they are.
func TestDescribe(t *testing.T) {
	call := func(operation string) error {
		return fmt.Errorf("try: %w", &smithy.OperationError{
			ServiceID: "S3", OperationName: operation,
			Err: &smithy.GenericAPIError{Code: "AccessDenied", Message: "Access Denied"},
		})
	}
	err := &client.UndoError{ID: "abcdefghij012345", Err: errors.Join(call("PutObject")), Undo: call("DeleteObject")}
	want := `try: S3 PutObject: AccessDenied: Access Denied (and file "abcdefghij012345" is left for a sweep: ` +
		`try: S3 DeleteObject: AccessDenied: Access Denied)`
	if got := describe(err); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
