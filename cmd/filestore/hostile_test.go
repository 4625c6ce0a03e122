package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/testserver"
)

// hostileTexts are what somebody may put into any text of a record.
func hostileTexts() []string {
	return []string{
		"../../../../../../tmp/filestore-was-here", "/etc/passwd", `..\..\boot.ini`, "..", ".", "/", "~root/.ssh/authorized_keys",
		".bashrc", "-rf", "CON", "a\x00b", "a\nb\r\nc\td", "\x1b[2J\x1b]0;title\x07\x1b[31mred", "\u009b31m", "a\u202egnp.exe", "\u2066\ufeff\u200d",
		"\x7f\x08\x08\x08", "\U000e0041\U0010ffff", "a\u0301\u0301\u0301", strings.Repeat("x", 64<<10), strings.Repeat("\x1b", 4<<10), strings.Repeat("é", 300) + ".txt",
		`a"; filename=b`, "%2e%2e%2f", "${HOME}`id`$(id)", "=cmd|' /C calc'!A0", "{", `{"a":`, `[1]`, "null", `{"\u001b[31m":"\u0000\u202e"}`, strings.Repeat("[", 20_000),
	}
}

// hostileValues are what may stand in the place of any attribute.
func hostileValues() []types.AttributeValue {
	deep := types.AttributeValue(&types.AttributeValueMemberS{Value: "\x1b[31m"})
	for range 30 { // DynamoDB takes 32 levels
		deep = &types.AttributeValueMemberL{Value: []types.AttributeValue{deep}}
	}
	values := []types.AttributeValue{
		&types.AttributeValueMemberN{Value: "-1"}, &types.AttributeValueMemberN{Value: "9223372036854775807"},
		&types.AttributeValueMemberN{Value: "99999999999999999999999999999999999999"}, &types.AttributeValueMemberN{Value: "0.5"},
		&types.AttributeValueMemberBOOL{Value: true}, &types.AttributeValueMemberNULL{Value: true},
		&types.AttributeValueMemberB{Value: []byte("\x00\x1b[31m\xff")}, &types.AttributeValueMemberSS{Value: []string{"\x1b[31m"}},
		&types.AttributeValueMemberNS{Value: []string{"1", "2"}},
		&types.AttributeValueMemberM{Value: map[string]types.AttributeValue{"\x1b[31m": &types.AttributeValueMemberS{Value: "\x00"}}},
		deep,
	}
	for _, text := range []string{"-5", "9223372036854775808", "1e400", "0000-00-00T00:00:00", "9999-12-31T23:59:59", "-292277022399-01-01T00:00:00", "\x1b[31m"} {
		values = append(values, &types.AttributeValueMemberS{Value: text})
	}
	return values
}

// hostileItems are records that other clients may have written: the rights to do so have all uploaders.
func hostileItems() []map[string]types.AttributeValue {
	s := func(text string) types.AttributeValue { return &types.AttributeValueMemberS{Value: text} }
	sound := func() map[string]types.AttributeValue {
		return map[string]types.AttributeValue{
			"id": s(client.NewID()), "name": s("a.txt"), "type": s("text/plain"), "size": &types.AttributeValueMemberN{Value: "4"},
			"meta": s(`{"a":"b"}`), "created_at": s("2026-11-23T14:50:17"), "uploaded_at": s("2026-11-23T14:50:17"), "stored_at": s("2026-11-23T14:50:17"),
		}
	}
	items := []map[string]types.AttributeValue{sound()}
	// Stored, so that they can be downloaded; and temporary or placeholders, so that sweeps get to them.
	for i, text := range hostileTexts() {
		for _, attribute := range []string{"name", "type", "meta"} {
			item := sound()
			item[attribute] = s(text)
			if drop := []string{"", "stored_at", "uploaded_at"}[i%3]; attribute != "name" && drop != "" {
				delete(item, "stored_at")
				delete(item, drop)
			}
			items = append(items, item)
		}
	}
	for _, value := range hostileValues() {
		for _, attribute := range []string{"name", "type", "size", "meta", "fingerprint", "created_at", "uploaded_at", "stored_at", "deleted_at"} {
			item := sound()
			if attribute == "created_at" || attribute == "uploaded_at" {
				delete(item, "stored_at")
			}
			item[attribute] = value
			items = append(items, item)
		}
	}
	for _, id := range []string{"../../etc/passwd", "..", "/", "a/b", "\x1b[31mred", "a\nb", "\u202e", strings.Repeat("x", 2000), "ABCDEFGHIJKLMNOP", "aaaaaaaaaaaaaaa\x00"} {
		stored, temporary := sound(), sound()
		stored["id"], temporary["id"] = s(id), s(id+"2")
		delete(temporary, "stored_at")
		items = append(items, stored, temporary)
	}
	return append(items, map[string]types.AttributeValue{"id": s(client.NewID())})
}

// TestHostileRecords runs the commands over a table of such records. None crashes, writes outside of its directory,
// sends a control character to a terminal, breaks a line of its output, or touches an object whose key is no id.
func TestHostileRecords(t *testing.T) {
	if testserver.Race {
		t.Skip("nothing in it is shared by goroutines that other tests don't share")
	}
	s := newSite(t, testserver.MinIO(t), testserver.Dynalite(t))
	s.env["XDG_STATE_HOME"] = t.TempDir()
	var ids, stored []string
	for _, item := range hostileItems() {
		id := item["id"].(*types.AttributeValueMemberS).Value
		ids = append(ids, id)
		if _, err := s.dynamoAPI.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &s.table, Item: item}); err != nil {
			t.Fatalf("%.100q: %v", fmt.Sprint(item), err)
		}
		if client.ValidID(id) && item["stored_at"] != nil && item["deleted_at"] == nil {
			stored = append(stored, id)
			if len(stored) <= 40 { // those of the texts
				if _, err := s.api.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: &id, Body: strings.NewReader("text")}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	s.put(t, "not an id")

	outside := t.TempDir()
	dir := filepath.Join(outside, "a", "b", "c")
	other := s.another(t)
	runs := [][]string{
		{"info", "--deleted", "--nonstored"}, {"info", "--checksum"}, {"presign", "get"},
		{"list"}, {"list", "--sort", "name"}, {"list", "--sort", "size"}, {"list", "--sort", "uploaded:desc"}, {"list", "--name", "*"}, {"list", "--meta", "a=b"},
		{"stats"}, {"verify"}, {"verify", "--deep"}, {"expire", "--dry-run"}, {"index", "backfill", "--dry-run"},
		{"download", "--nonstored", "-d", dir}, {"download", "--nonstored", "--resume", "-d", dir},
		{"copy", "--to-bucket", other.bucket, "--to-table", other.table, "--to-profile", "owner", "--to-endpoint-url", other.front},
		{"copy", "--to-local=" + filepath.Join(t.TempDir(), "copy"), "--dry-run"},
		{"store"}, {"expire", "--full"}, {"verify", "--fix", "all", "--grace", "1s"}, {"index", "backfill"}, {"expire"}, {"delete"},
	}
	for i, args := range runs {
		switch command := args[0]; command {
		case "info", "presign", "store", "delete", "download":
			args = append(append(slices.Clone(args), "--"), ids...)
		}
		forms := [][]string{{"--json"}, {"tty"}, nil}
		if len(args) > 3 || !slices.Contains([]string{"info", "list"}, args[0]) {
			forms = forms[i%3:][:1]
		}
		for _, form := range forms {
			tty := slices.Contains(form, "tty")
			all := append(strings.Fields("--log-format="+[]string{"json", "text"}[i%2]), args...)
			if !tty {
				all = append(slices.Clone(form), all...)
			}
			r := runOnTerminal(t, s.env, tty, all...)
			if !slices.Contains([]int{exitOK, exitPartial, exitNotFound, exitConflict, exitFailed}, r.status) {
				t.Errorf("%.60q: exit status %d\n%.2000s", all, r.status, r.stderr)
			}
			checkPlain(t, fmt.Sprintf("%.60q: standard error", all), r.stderr, "\n", true)
			checkPlain(t, fmt.Sprintf("%.60q: standard output", all), r.stdout, "\n\t", tty || slices.Contains(form, "--json"))
			if slices.Contains(form, "--json") {
				for line := range strings.Lines(r.stdout) {
					if !json.Valid([]byte(line)) {
						t.Errorf("%.60q: no JSON: %.200q", all, line)
					}
				}
			}
			if r.stdout == "" && args[0] != "expire" && args[0] != "verify" && args[0] != "index" && args[0] != "copy" {
				t.Errorf("%.60q printed nothing: %.500s", all, r.stderr)
			}
		}
	}

	// Every file that was downloaded is in the directory itself, and nobody's name was hidden.
	files := 0
	err := filepath.WalkDir(outside, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
			if filepath.Dir(path) != dir || strings.HasPrefix(d.Name(), ".") {
				t.Errorf("downloaded to %q", path)
			}
		}
		return err
	})
	if err != nil || files < len(hostileTexts()) {
		t.Errorf("%d files of %d were downloaded (%v)", files, len(hostileTexts()), err)
	}
	if _, err := os.Lstat("/tmp/filestore-was-here"); !os.IsNotExist(err) {
		t.Errorf("a name led out of the directory (%v)", err)
	}
	if out := s.keys(t); !slices.Contains(out, "not an id") {
		t.Errorf("an object was deleted whose key is no id; there are %q", out)
	}
}

// runOnTerminal is runInAccount, on demand with standard output as a terminal.
func runOnTerminal(t *testing.T, env map[string]string, tty bool, args ...string) ran {
	t.Helper()
	var out, errs strings.Builder
	a := &app{
		stdin: strings.NewReader(""), stdout: &out, stderr: &errs, stdoutTTY: tty, columns: func() int { return 80 },
		runBy: thisInvoker, release: func() {}, lookupEnv: func(name string) (string, bool) { value, ok := env[name]; return value, ok },
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	status := a.main(ctx, args)
	return ran{status, out.String(), errs.String()}
}

// checkPlain fails where text has a control character but for those that are allowed, or bytes that are no
// UTF-8; with strict, where it has anything that a terminal does not show.
func checkPlain(t *testing.T, what, text, allowed string, strict bool) {
	t.Helper()
	for i, r := range text {
		switch {
		case strings.ContainsRune(allowed, r):
		case unicode.IsControl(r), strict && !unicode.IsPrint(r), r == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd") && strict:
			t.Errorf("%s has a raw %q: %q", what, r, text[max(0, i-60):min(len(text), i+60)])
			return
		}
	}
}

// keys are those of all objects.
func (s *site) keys(t *testing.T) []string {
	t.Helper()
	list, err := s.api.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &s.bucket})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, o := range list.Contents {
		keys = append(keys, aws.ToString(o.Key))
	}
	return keys
}
