package docstest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/designfultech/filestore/internal/testserver"
)

// TestExamples runs the shell examples of all pages. It tells of each page how many were run, and which
// were not and why.
func TestExamples(t *testing.T) {
	needPrograms(t)
	program := testserver.Program(t)
	for _, name := range pages(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := readPage(t, name)
			blocks, err := parse(text)
			if err != nil {
				t.Fatal(err)
			}
			p := &page{name: name, program: program, ids: make(map[string]string)}
			for _, b := range blocks {
				p.example(t, b)
				if t.Failed() {
					return // the others may build on it
				}
			}
			t.Logf("%d run, %d not run", p.run, len(p.left))
			for _, why := range p.left {
				t.Log("not run: " + why)
			}
		})
	}
}

// needPrograms sees to it that what the pages use beside filestore is there: see [testserver].
func needPrograms(t *testing.T) {
	t.Helper()
	for _, name := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// page is a page whose examples are being run.
type page struct {
	name    string
	program string
	run     int
	left    []string

	root    string
	session *session // nil until there is something to run
	ports   map[string]string
	ids     map[string]string // of the page: what was printed in their places
}

// example checks a block, and runs it if it is a shell's.
func (p *page) example(t *testing.T, b block) {
	t.Helper()
	if b.notRun != "" {
		p.left = append(p.left, fmt.Sprintf("%s:%d: %s", p.name, b.line, strings.Join(strings.Fields(b.notRun), " ")))
	}
	fail := func(format string, args ...any) {
		t.Errorf("%s:%d: %s", p.name, b.line, fmt.Sprintf(format, args...))
	}
	switch b.language {
	case "sh":
		if err := syntax(b.text); err != nil {
			fail("%v", err)
		}
		p.shell(t, b, b.text)
	case "console":
		p.console(t, b)
	case "crontab":
		for _, line := range cron(b.text) {
			if err := syntax(line); err != nil {
				fail("%v", err)
			}
			p.shell(t, b, line)
			b.setup = ""
		}
	case "yaml":
		scripts, err := pipelines(b.text)
		if err != nil {
			fail("%v", err)
		}
		for _, script := range scripts {
			if err := syntax(script); err != nil {
				fail("%v", err)
			}
			p.shell(t, b, script)
			b.setup = ""
		}
	case "json":
		decoder := json.NewDecoder(strings.NewReader(b.text))
		for {
			var value any
			if err := decoder.Decode(&value); err != nil {
				if !errors.Is(err, io.EOF) {
					fail("%v", err)
				}
				return
			}
		}
	case "ini", "logql", "html", "http", "text", "go", "javascript", "js", "python", "dockerfile", "diff":
	case "":
		if commandLine.MatchString(b.text) {
			fail("this looks like a command: say that it is sh, console, or text")
		}
	default:
		fail("%q is no language that examples are written in here", b.language)
	}
}

var commandLine = regexp.MustCompile(`(?m)^(\$ |(filestore|curl|go|make|aws|docker|kubectl|brew) )`)

// syntax has bash look at a script, without running it.
func syntax(script string) error {
	cmd := exec.Command("bash", "-n")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// shell runs a script, each of whose commands must succeed.
func (p *page) shell(t *testing.T, b block, script string) {
	t.Helper()
	if b.notRun != "" || t.Failed() {
		return
	}
	p.run++
	p.open(t)
	p.prepare(t, b)
	screen, _, err := p.session.run(p.substitute(script), true)
	if err == nil {
		err = p.served(script)
	}
	if err != nil {
		t.Fatalf("%s:%d: %v\n%s", p.name, b.line, err, strings.Join(screen, "\n"))
	}
}

// console runs the commands of a console block, and compares what they show.
func (p *page) console(t *testing.T, b block) {
	t.Helper()
	all, err := commands(b)
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	for _, c := range all {
		if err := syntax(c.text); err != nil {
			t.Fatalf("%s:%d: %v", p.name, b.line, err)
		}
	}
	if b.notRun != "" {
		return
	}
	p.run++
	p.open(t)
	p.prepare(t, b)
	for _, c := range all {
		screen, status, err := p.session.run(p.substitute(c.text), false)
		if err == nil {
			err = p.served(c.text)
		}
		for i := range screen {
			screen[i] = p.asShown(screen[i])
		}
		got := strings.Join(screen, "\n")
		fails := strings.Contains(c.want, "filestore: error: ")
		switch {
		case err != nil:
			t.Fatalf("%s:%d: $ %s%v\n%s", p.name, b.line, c.text, err, got)
		case status != 0 && !fails:
			t.Fatalf("%s:%d: $ %sexit status %d\n%s", p.name, b.line, c.text, status, got)
		case status == 0 && fails:
			t.Fatalf("%s:%d: $ %sdoes not fail\n%s", p.name, b.line, c.text, got)
		}
		ids, same := compare(strings.Split(strings.TrimSuffix(c.want, "\n"), "\n"), strings.Split(got, "\n"))
		if !same {
			t.Fatalf("%s:%d: $ %sthe page shows\n%sand it is\n%s", p.name, b.line, c.text, c.want, got)
		}
		maps.Copy(p.ids, ids)
	}
}

// prepare runs the setup of a block.
func (p *page) prepare(t *testing.T, b block) {
	t.Helper()
	if b.setup == "" {
		return
	}
	screen, _, err := p.session.run(p.substitute(b.setup), true)
	if err == nil {
		err = p.served(b.setup)
	}
	if err != nil {
		t.Fatalf("%s:%d: setup: %v\n%s", p.name, b.line, err, strings.Join(screen, "\n"))
	}
}

// The addresses on which "serve" listens unless it is told another.
const (
	s3Address  = "127.0.0.1:9480"
	apiAddress = "127.0.0.1:9481"
)

var (
	placeholderID = regexp.MustCompile(`(^|[\s"=(/])ID($|[\s")|;&])`)
	systemPath    = regexp.MustCompile(`(^|[\s"'=:>(])/(etc|srv|tmp|var)(/|\s)`)
)

// substitute makes of a command of a page what is run here.
func (p *page) substitute(text string) string {
	text = anID.ReplaceAllStringFunc(text, func(id string) string {
		if printed, ok := p.ids[id]; ok {
			return printed
		}
		return id
	})
	for placeholderID.MatchString(text) { // matches overlap
		text = placeholderID.ReplaceAllString(text, "${1}$$ID${2}")
	}
	text = systemPath.ReplaceAllString(text, "${1}"+p.root+"/${2}${3}")
	for shown, address := range p.ports {
		text = strings.ReplaceAll(text, shown, address)
	}
	return text
}

// asShown is the reverse of substitute for a line of output.
func (p *page) asShown(line string) string {
	for shown, address := range p.ports {
		line = strings.ReplaceAll(line, address, shown)
	}
	line = strings.ReplaceAll(line, filepath.Join(p.root, "home"), "/home/me")
	return strings.ReplaceAll(line, p.root+"/", "/")
}

// served waits until a server that a command has started in the background answers.
func (p *page) served(command string) error {
	if !regexp.MustCompile(`filestore .*\bserve\b.*&\s*(#.*)?(\n|$)`).MatchString(command) {
		return nil
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	timeout := time.After(deadline)
	for _, address := range p.listening(command) {
		for {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				_ = conn.Close()
				break
			}
			select {
			case <-tick.C:
			case <-timeout:
				return fmt.Errorf("what was started in the background does not answer at %s", address)
			}
		}
	}
	return nil
}

// listening are the addresses of "serve" in that command.
func (p *page) listening(command string) []string {
	var found []string
	if p.ports[apiAddress] != "" {
		found = append(found, p.ports[apiAddress])
	}
	if strings.Contains(command, "--local") || len(found) == 0 {
		found = append(found, p.ports[s3Address])
	}
	return found
}

// open starts the shell, and servers, unless that is done.
func (p *page) open(t *testing.T) {
	t.Helper()
	if p.session != nil {
		return
	}
	p.root = t.TempDir()
	home, work, bin := filepath.Join(p.root, "home"), filepath.Join(p.root, "work"), filepath.Join(p.root, "bin")
	for name, content := range fixtures() {
		writeFile(t, filepath.Join(work, name), content, 0o600)
	}
	for _, dir := range []string{home, "etc", "srv", "var/lib/node_exporter/textfile", "var/log/filestore", "tmp"} {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(p.root, dir)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p.ports = map[string]string{s3Address: freeAddress(t)}
	flags := " --s3-listen " + p.ports[s3Address]
	if help, err := exec.Command(p.program, "serve", "--help").Output(); err != nil {
		t.Fatal(err)
	} else if strings.Contains(string(help), " --listen ") {
		p.ports[apiAddress] = freeAddress(t)
		flags += " --listen " + p.ports[apiAddress]
	}
	writeFile(t, filepath.Join(bin, "filestore"), fmt.Sprintf(filestoreStub, p.program, flags), 0o700)
	for name, script := range stubs() {
		writeFile(t, filepath.Join(bin, name), script, 0o700)
	}
	environ := []string{
		"HOME=" + home, "PATH=" + bin + ":" + os.Getenv("PATH"), "TMPDIR=" + filepath.Join(p.root, "tmp"),
		"TZ=UTC", "LANG=C.UTF-8", "TERM=xterm", "GORACE=atexit_sleep_ms=0",
	}
	if usesAWS.MatchString(readPage(t, p.name)) {
		environ = append(environ, p.servers(t, home)...)
	}
	p.session = newSession(t, work, environ)
}

var usesAWS = regexp.MustCompile(`FILESTORE_BUCKET|--bucket|--to-bucket`)

// servers starts MinIO and dynalite. Their key is that of all profiles.
func (p *page) servers(t *testing.T, home string) []string {
	t.Helper()
	s3 := testserver.MinIO(t)
	key := fmt.Sprintf("aws_access_key_id = %s\naws_secret_access_key = %s\n", s3.AccessKey, s3.SecretKey)
	writeFile(t, filepath.Join(home, ".aws", "credentials"), "[default]\n"+key+"[work]\n"+key+"[backup]\n"+key, 0o600)
	writeFile(t, filepath.Join(home, ".aws", "config"), "[default]\nregion = "+s3.Region+"\n", 0o600)
	table := testserver.Dynalite(t)
	return []string{
		"AWS_ENDPOINT_URL_S3=" + s3.Endpoint, "AWS_ENDPOINT_URL_DYNAMODB=" + table,
		// For pages that are about the variables of the SDK, and for pipelines.
		"DOCSTEST_S3=" + s3.Endpoint, "DOCSTEST_DYNAMODB=" + table,
		"DOCSTEST_ACCESS_KEY=" + s3.AccessKey, "DOCSTEST_SECRET_KEY=" + s3.SecretKey,
	}
}

// filestoreStub is the program, on free ports if none are said.
const filestoreStub = `#!/bin/sh
for arg; do
	case $arg in
	--help | --s3-listen* | --listen*) exec '%[1]s' "$@" ;;
	serve) serve=1 ;;
	esac
done
exec '%[1]s' "$@" ${serve:+%[2]s}
`

// stubs are programs that can't do here what they do for the reader of a page.
func stubs() map[string]string {
	return map[string]string{
		// The program is built already.
		"go": `#!/bin/sh
case "$1 $2" in
"run ./cmd/filestore") shift 2; exec filestore "$@" ;;
"install ./cmd/filestore" | "install github.com/designfultech/filestore/cmd/filestore@"*) exit 0 ;;
esac
echo "go $*: not known here" >&2
exit 1
`,
		"pg_dump": "#!/bin/sh\necho 'CREATE TABLE orders (id integer);'\n",
	}
}

// fixtures are the files in the working directory of each page.
func fixtures() map[string]string {
	return map[string]string{
		"README.md":        "# Read me\n",
		"report.pdf":       "%PDF-1.7\n" + strings.Repeat("%% a page\n", 1000),
		"invoice.pdf":      "%PDF-1.7\n" + strings.Repeat("%% an invoice\n", 100),
		"hello.txt":        "Hello, world\n",
		"backup.tar":       strings.Repeat("backup\n", 1000),
		"photos/beach.jpg": "\xff\xd8\xff\xe0 a beach\n",
		"photos/hills.jpg": "\xff\xd8\xff\xe0 hills\n",
		"dist/shop.tar.gz": "\x1f\x8b\x08 a shop\n",
		"dist/docs.tar.gz": "\x1f\x8b\x08 its documentation\n",
	}
}

func writeFile(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

var (
	cronVariable = regexp.MustCompile(`^[A-Z_]+=`)
	cronTime     = regexp.MustCompile(`^([0-9*/,-]+\s+){5}`)
)

// cron returns the commands of a crontab, each with the variables that hold for it. In a file below
// /etc/cron.d there is a user before the command: that of the pages is called filestore.
func cron(text string) []string {
	var variables strings.Builder
	var found []string
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "PATH="): // the test has its own
		case cronVariable.MatchString(line):
			variables.WriteString("export " + line + "\n")
		default:
			command := strings.TrimPrefix(cronTime.ReplaceAllString(line, ""), "filestore filestore ")
			if command != cronTime.ReplaceAllString(line, "") {
				command = "filestore " + command
			}
			found = append(found, "(\n"+variables.String()+command+"\n)\n")
		}
	}
	return found
}

func TestCron(t *testing.T) {
	got := cron("PATH=/bin\nA=b\n\n# every day\n15 3 * * * x -y || z\n*/30 * * * * filestore filestore expire\n0 4 * * 0 filestore verify\n")
	want := []string{
		"(\nexport A=b\nx -y || z\n)\n", "(\nexport A=b\nfilestore expire\n)\n", "(\nexport A=b\nfilestore verify\n)\n",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// pipeline is what is looked at in the workflows of GitHub Actions and the jobs of GitLab CI.
type pipeline struct {
	Env       map[string]string `yaml:"env"`
	Variables map[string]string `yaml:"variables"`
	Jobs      map[string]struct {
		Env   map[string]string `yaml:"env"`
		Steps []struct {
			Env map[string]string `yaml:"env"`
			Run string            `yaml:"run"`
		} `yaml:"steps"`
	} `yaml:"jobs"`
	Others map[string]yaml.Node `yaml:",inline"`
}

// pipelines parses the documents of a block in YAML, and returns the scripts of those that are for a CI:
// each in a shell of its own, with its variables.
func pipelines(text string) ([]string, error) {
	var found []string
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var node yaml.Node
		if err := decoder.Decode(&node); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		var p pipeline
		if node.Decode(&p) != nil {
			continue // another kind of document
		}
		for _, name := range slices.Sorted(maps.Keys(p.Jobs)) {
			for _, step := range p.Jobs[name].Steps {
				if step.Run != "" {
					found = append(found, ciScript(step.Run, p.Env, p.Jobs[name].Env, step.Env))
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(p.Others)) {
			var job struct {
				Variables    map[string]string `yaml:"variables"`
				BeforeScript []string          `yaml:"before_script"`
				Script       []string          `yaml:"script"`
			}
			if other := p.Others[name]; other.Decode(&job) == nil && len(job.Script) > 0 {
				script := strings.Join(append(job.BeforeScript, job.Script...), "\n")
				found = append(found, ciScript(script, p.Variables, job.Variables))
			}
		}
	}
}

var ciExpression = regexp.MustCompile(`\$\{\{\s*([a-z_.A-Z]+)\s*\}\}`)

// ciScript is a script as the CI runs it.
func ciScript(script string, variables ...map[string]string) string {
	known := map[string]string{
		"github.sha": "4f2a91c0d1e2f3a4b5c6d7e8f90123456789abcd", "github.ref_name": "main",
		"github.repository": "example/shop", "github.run_id": "1234567890",
	}
	expand := func(text string) string {
		return ciExpression.ReplaceAllStringFunc(text, func(e string) string {
			return known[ciExpression.FindStringSubmatch(e)[1]]
		})
	}
	var b strings.Builder
	// Keys in the environment win over the role of a pipeline, which there is none of here.
	b.WriteString(`(
set -e
export AWS_ACCESS_KEY_ID="${DOCSTEST_ACCESS_KEY-}" AWS_SECRET_ACCESS_KEY="${DOCSTEST_SECRET_KEY-}"
`)
	for _, v := range append([]map[string]string{{
		"CI_COMMIT_SHA": known["github.sha"], "CI_PROJECT_PATH": known["github.repository"], "AWS_TOKEN": "a token",
		"GITHUB_SHA": known["github.sha"], "GITHUB_REPOSITORY": known["github.repository"], "GITHUB_REF_NAME": known["github.ref_name"],
		"GITHUB_RUN_ID": known["github.run_id"], "GITHUB_STEP_SUMMARY": "summary.md",
	}}, variables...) {
		for _, name := range slices.Sorted(maps.Keys(v)) {
			fmt.Fprintf(&b, "export %s='%s'\n", name, expand(v[name]))
		}
	}
	b.WriteString(expand(script) + "\n)\n")
	return b.String()
}
