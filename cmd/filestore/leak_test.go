package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/local"
	"github.com/designfultech/filestore/internal/policy"
	"github.com/designfultech/filestore/internal/testserver"
)

// exitLeaked is the status of the program in tests that has let a secret out. No command has it.
const exitLeaked = 99

// runWatched is run, and fails where a secret got out: so every script, with all the failures that it
// provokes, tests this too. A process that is killed is not watched.
func runWatched(args []string) int {
	if len(args) > 0 && args[0] == local.ServerCommand {
		return run(args)
	}
	stdout, stderr := &watched{w: os.Stdout}, &watched{w: os.Stderr}
	status := runOn(args, stdout, stderr)
	if found := leaks(args, secretsOf(args, os.Getenv), stdout.String(), stderr.String()); len(found) > 0 {
		fmt.Fprintf(os.Stderr, "LEAK of %q: %s\n", args, found)
		return exitLeaked
	}
	return status
}

// watched keeps what is written to w.
type watched struct {
	w io.Writer
	growing
}

func (w *watched) Write(p []byte) (int, error) {
	_, _ = w.growing.Write(p) // never fails
	return w.w.Write(p)
}

// secretsOf finds the secrets that the environment and the command line hand to the program.
func secretsOf(args []string, getenv func(string) string) []string {
	found := []string{getenv("AWS_SECRET_ACCESS_KEY"), getenv("AWS_SESSION_TOKEN")}
	dirs := []string{getenv("FILESTORE_LOCAL")}
	for _, arg := range args {
		for _, flag := range []string{"--local=", "--to-local="} {
			if dir, ok := strings.CutPrefix(arg, flag); ok {
				dirs = append(dirs, dir)
			}
		}
	}
	for _, dir := range dirs {
		var key local.Credentials
		if text, err := os.ReadFile(filepath.Join(dir, "credentials.json")); err == nil && json.Unmarshal(text, &key) == nil {
			found = append(found, key.SecretAccessKey)
		}
	}
	return slices.DeleteFunc(found, func(s string) bool { return len(s) < 8 })
}

// signed is the signature of a URL or of a header, or the header.
func signed() *regexp.Regexp {
	return regexp.MustCompile(`(?i)(Signature|Credential)(=|%3D)[0-9a-z]|X-Amz-Security-Token(=|%3D|: ?)[0-9a-z]`)
}

// leaks tells what of the secrets is where it must not be. The results of two commands are URLs.
func leaks(args, secrets []string, stdout, stderr string) []string {
	var found []string
	look := func(where, text string) {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				found = append(found, where+" has a key or token")
			}
		}
		if s := signed().FindString(text); s != "" {
			found = append(found, fmt.Sprintf("%s has %q", where, s))
		}
	}
	look("standard error", stderr)
	if !slices.Contains(args, "presign") && !slices.Contains(args, "info") {
		look("standard output", stdout)
	}
	return found
}

// TestNothingLeaks runs every command on servers that do well, and on servers that answer with everything that
// they were told: the request with its signature, the session token, even the key. Nothing of that may be in
// what is written, but for URLs in the results of presign and info.
func TestNothingLeaks(t *testing.T) {
	if testserver.Race {
		t.Skip("every command, on four kinds of servers: nothing that is shared by goroutines")
	}
	s := newSite(t, testserver.MinIO(t), testserver.Dynalite(t))
	s.restrictTo(t, policy.Admin)
	kept := t.TempDir() // everything that is written beside the streams
	s.env["XDG_STATE_HOME"] = filepath.Join(kept, "state")
	s.env["FILESTORE_AUDIT"] = filepath.Join(kept, "audit.jsonl")
	s.env["FILESTORE_METRICS_FILE"] = filepath.Join(kept, "metrics.prom")
	// What the standard library and the SDK would tell by themselves.
	t.Setenv("GODEBUG", "http2debug=2")
	secrets := secretsOf(nil, func(name string) string { return s.env[name] })
	if len(secrets) != 2 {
		t.Fatalf("%d secrets, where there are a key and a token", len(secrets))
	}
	gossip := s.gossip(t, secrets)
	s.env["FILESTORE_API_KEYS"] = rand.Text() + rand.Text()
	secrets = append(secrets, s.env["FILESTORE_API_KEYS"])
	other := s.another(t)
	large := s.file(t, "large.bin", 17<<20)
	stored := strings.TrimSpace(s.run(t, exitOK, "upload", "-q", "--store", s.file(t, "a.txt", 10)))
	doomed := strings.TrimSpace(s.run(t, exitOK, "upload", "-q", "--store", s.file(t, "b.txt", 10)))
	url := strings.TrimSpace(s.run(t, exitOK, "presign", "get", "--url", stored))

	runs := map[string][][]string{
		"upload": {
			{"--store", s.file(t, "a.txt", 10)}, {large}, {"--resume", large}, {"--idempotency-key", "k", s.file(t, "a.txt", 10)},
			{url},
		},
		"uploads":                 {nil},
		"uploads abort":           {{"--older-than", "24h"}, {url}},
		"store":                   {{stored}, {url}},
		"info":                    {{stored}, {"--checksum", stored}, {url}},
		"list":                    {nil, {"--name", url}},
		"download":                {{"-d", t.TempDir(), stored}, {"-d", t.TempDir(), "--resume", stored, url}},
		"delete":                  {{doomed}, {url}},
		"presign put":             {{"a.txt"}, {"--size", "5", "--no-overwrite", "a.txt"}, {"--expires", url, "a.txt"}},
		"presign get":             {{stored}, {url}},
		"expire":                  {nil, {"--full"}, {"--dry-run"}},
		"index create":            {{"--wait=false"}},
		"index status":            {nil},
		"index backfill":          {nil},
		"index drop":              {nil},
		"stats":                   {nil},
		"verify":                  {nil, {"--deep"}, {"--fix", "all", "--grace", "1s"}},
		"copy":                    {{"--to-bucket", other.bucket, "--to-table", other.table, "--to-profile", "owner", "--to-endpoint-url", other.front}},
		"init":                    {nil},
		"template cloudformation": {nil},
		"policy":                  {{"--role", "admin"}},
		"serve":                   {{"--listen", "127.0.0.1:0", "--sweep-every", "10ms", "--timeout", "300ms"}},
		"lambda":                  {nil},
		"version":                 {nil},
	}
	// The status of the first run of each command on servers that do well, where it is another one than 0.
	ends := map[string]int{
		"index create": exitUsage, // dynalite refuses every index of a table without a throughput
		"lambda":       exitUsage, // no runtime has started it
	}
	for _, command := range leaves((&app{lookupEnv: os.LookupEnv}).newRootCmd()) {
		if runs[command] == nil {
			t.Errorf("%q is not run here: add it, with what makes it talk", command)
		}
	}
	for _, mode := range []gossipMode{gossipNot, gossipRefusal, gossipRedirect, gossipHang} {
		gossip.mode.Store(int32(mode))
		for _, command := range slices.Sorted(maps.Keys(runs)) {
			for i, args := range runs[command] {
				if mode == gossipHang && (i > 0 || command == "upload" || command == "presign put") {
					continue // each takes its time, and those that undo something longer
				}
				args = append(strings.Fields(command), args...)
				args = append(args, "--log-format", []string{"json", "text"}[i%2])
				if mode == gossipHang {
					args = append(args, "--timeout", "200ms")
				}
				if i%3 == 0 {
					args = append(args, "--json")
				}
				r := runInAccount(t.Context(), t, s.env, args...)
				if mode == gossipNot && i == 0 && r.status != ends[command] {
					t.Errorf("%q: exit status %d, want %d\n%s", args, r.status, ends[command], r.stderr)
				}
				if found := leaks(args, secrets, r.stdout, r.stderr); len(found) > 0 {
					t.Errorf("%s, %q: %s\n%s%s", mode, args, found, r.stdout, r.stderr)
				}
				gossip.heard(r.stderr)
			}
		}
	}
	if gossip.passedOn == 0 {
		t.Error("no message repeats what the servers said: nothing was tested")
	}
	searchFiles(t, kept, secrets)
}

// TestNothingLeaksLocally runs commands on a local store, whose key is in one file of it, and looks into what a
// process writes that is made to crash.
func TestNothingLeaksLocally(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the local store is not supported here")
	}
	program, err := exec.LookPath("filestore")
	if err != nil {
		t.Fatal(err)
	}
	kept := t.TempDir()
	store := filepath.Join(t.TempDir(), "store")
	env := append(os.Environ(), "FILESTORE_LOCAL="+store, "XDG_STATE_HOME="+filepath.Join(kept, "state"),
		"FILESTORE_AUDIT="+filepath.Join(kept, "audit.jsonl"), "GOTRACEBACK=all", "GODEBUG=http2debug=2",
		"GORACE=atexit_sleep_ms=0")
	command := func(args ...string) (*exec.Cmd, *watched, *watched) {
		cmd := exec.CommandContext(t.Context(), program, args...)
		stdout, stderr := &watched{w: io.Discard}, &watched{w: io.Discard}
		cmd.Env, cmd.Stdout, cmd.Stderr = env, stdout, stderr
		return cmd, stdout, stderr
	}
	file := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, stdout, _ := command("upload", "-q", "--store", file)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(stdout.String())
	secrets := secretsOf([]string{"--local=" + store}, func(string) string { return "" })
	if len(secrets) != 1 {
		t.Fatalf("%d secrets, where there is a key", len(secrets))
	}
	for _, args := range [][]string{
		{"info", "--checksum", id}, {"download", "-d", t.TempDir(), id}, {"uploads"}, {"verify", "--deep"}, {"expire"},
		{"copy", "--to-local=" + filepath.Join(t.TempDir(), "copy")}, {"delete", id},
	} {
		cmd, stdout, stderr := command(append(args, "--log-format=json")...)
		if err := cmd.Run(); err != nil {
			t.Errorf("%q: %v\n%s", args, err, stderr.String())
		}
		if found := leaks(args, secrets, stdout.String(), stderr.String()); len(found) > 0 {
			t.Errorf("%q: %s", args, found)
		}
	}

	// Waiting for input, with the store open and its server running.
	cmd, stdout, stderr := command("upload", "--name", "a", "-")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write(make([]byte, 9<<20)); err != nil { // more than the first part
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) || !strings.Contains(stderr.String(), "goroutine ") {
		t.Fatalf("it did not crash: %v\n%s", err, stderr.String())
	}
	if found := leaks(nil, secrets, stdout.String(), stderr.String()); len(found) > 0 {
		t.Errorf("crash: %s\n%s", found, stderr.String())
	}
	searchFiles(t, kept, secrets)
}

// searchFiles fails where a file below dir has a secret, or nothing is there.
func searchFiles(t *testing.T, dir string, secrets []string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		if found := leaks(nil, secrets, path, string(text)); len(found) > 0 {
			t.Errorf("%s: %s", path, found)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files were written (%v)", files, err)
	}
}

// leaves are the commands that do something, as they are called.
func leaves(cmd *cobra.Command) []string {
	var found []string
	for _, c := range cmd.Commands() {
		name := strings.TrimPrefix(c.CommandPath(), "filestore ")
		if c.Hidden || name == "completion" || name == "help" {
			continue
		}
		if c.Runnable() && (!c.HasSubCommands() || c.Name() == "uploads") {
			found = append(found, name)
		}
		found = append(found, leaves(c)...)
	}
	return found
}

// gossipMode is what the servers of TestNothingLeaks do.
type gossipMode int32

const (
	gossipNot      gossipMode = iota // they do their work
	gossipRefusal                    // 403 with all they know
	gossipRedirect                   // 301 to a signed URL, with the same
	gossipHang                       // no answer
)

func (m gossipMode) String() string {
	return []string{"well", "refusal", "redirect", "hang"}[m]
}

// gossip stands before the servers of a site.
type gossip struct {
	mode     atomic.Int32
	secrets  []string
	passedOn int // messages with something in them that was hidden
}

func (g *gossip) heard(stderr string) {
	g.passedOn += strings.Count(stderr, hidden)
}

// gossip puts a gossip before both services, and has the program use it.
func (s *site) gossip(t *testing.T, secrets []string) *gossip {
	t.Helper()
	g := &gossip{secrets: secrets}
	for variable, next := range map[string]http.Handler{"AWS_ENDPOINT_URL_S3": s.s3, "AWS_ENDPOINT_URL_DYNAMODB": s.dynamoDB} {
		ctx, cancel := context.WithCancel(context.Background())
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch mode := gossipMode(g.mode.Load()); mode {
			case gossipNot:
				next.ServeHTTP(w, r)
			case gossipHang:
				select {
				case <-r.Context().Done():
				case <-ctx.Done():
				}
			case gossipRefusal, gossipRedirect:
				g.tell(w, r, mode)
			}
		}))
		t.Cleanup(func() {
			cancel()
			server.CloseClientConnections()
			server.Close()
		})
		s.env[variable] = server.URL
	}
	return g
}

// tell answers with all that is known.
func (g *gossip) tell(w http.ResponseWriter, r *http.Request, mode gossipMode) {
	_, _ = io.Copy(io.Discard, r.Body)
	signedURL := "http://" + r.Host + r.URL.Path + "?X-Amz-Signature=" + strings.Repeat("0123456789abcdef", 4) + "&X-Amz-Security-Token=" + g.secrets[1]
	var headers bytes.Buffer
	_ = r.Header.Write(&headers)
	message := fmt.Sprintf("%s %s\r\n%s\r\n%s %q", r.Method, r.URL, headers.String(), signedURL, g.secrets)
	status, code := http.StatusForbidden, "AccessDenied"
	if mode == gossipRedirect {
		status, code = http.StatusMovedPermanently, "PermanentRedirect"
		w.Header().Set("Location", signedURL)
	}
	if r.Header.Get("X-Amz-Target") != "" {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": code + "Exception", "message": message})
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	type document struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}
	_ = xml.NewEncoder(w).Encode(document{Code: code, Message: message})
}

// TestHide shows what is taken out of messages.
func TestHide(t *testing.T) {
	var s secrets
	s.add("wJalrXUtnFEMI", "", "short")
	for text, want := range map[string]string{
		"no such file":                      "no such file",
		"short":                             "short",
		"key wJalrXUtnFEMI, wJalrXUtnFEMI!": "key (hidden), (hidden)!",
		"http://h/b/k?X-Amz-Signature=0af9&X-Amz-E": "http://h/b/k?X-Amz-Signature=(hidden)&X-Amz-E",
		"x-amz-signature=0AF9":                      "x-amz-signature=(hidden)",
		"u=http%3A%2F%2Fh%3FX-Amz-Signature%3D0af9": "u=http%3A%2F%2Fh%3FX-Amz-Signature%3D(hidden)",
		"X-Amz-Security-Token=a%2Fb%3D%3D&x":        "X-Amz-Security-Token=(hidden)&x",
		"X-Amz-Security-Token: a/b==; x":            "X-Amz-Security-Token: (hidden); x",
		"Credential=A/B, Signature=0af9, x":         "Credential=(hidden), Signature=(hidden), x",
		"Signature":                                 "Signature",
		"Signature=":                                "Signature=",
		"the signature: it does not match":          "the signature: it does not match",
		"SignatureDoesNotMatch: The request signature we calculated does not match": "SignatureDoesNotMatch: The request signature we calculated does not match",
	} {
		if got := s.hide(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

// An endpoint with a password in it is refused: the password would be a part of what tells filestores apart, which is
// kept in the state directory.
func TestEndpointWithPassword(t *testing.T) {
	env := map[string]string{"AWS_REGION": "us-east-1", "FILESTORE_BUCKET": "b"}
	r := runInAccount(t.Context(), t, env, "--endpoint-url", "http://me:hunter22@127.0.0.1:1", "list")
	if r.status != exitUsage || strings.Contains(r.stderr, "hunter22") {
		t.Errorf("exit status %d, %s", r.status, r.stderr)
	}
}

// TestLeaks shows what the runs of the program are searched for.
func TestLeaks(t *testing.T) {
	const url = "http://h/b/k?X-Amz-Signature=0af9"
	known := []string{"wJalrXUtnFEMI"}
	for _, test := range []struct {
		command, stdout, stderr string
		leaks                   bool
	}{
		{"list", "a.txt", "filestore: error: none", false},
		{"list", "wJalrXUtnFEMI", "", true},
		{"list", "", "key wJalrXUtnFEMI", true},
		{"info", url, "", false},
		{"list", url, "", true},
		{"info", "", url, true},
		{"list", "", "Authorization: AWS4-HMAC-SHA256 Credential=A/B", true},
		{"list", "", "X-Amz-Security-Token: a", true},
		{"list", "", "Credential=(hidden), Signature=(hidden)", false},
	} {
		if found := leaks([]string{test.command}, known, test.stdout, test.stderr); (len(found) > 0) != test.leaks {
			t.Errorf("%+v: found %q", test, found)
		}
	}
}
