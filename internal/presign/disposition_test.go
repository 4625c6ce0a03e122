package presign_test

import (
	"mime"
	"strings"
	"testing"

	"github.com/designfultech/filestore/internal/presign"
)

func TestContentDisposition(t *testing.T) {
	for _, test := range []struct {
		what, name, want string
	}{
		{"plain", `report.pdf`, `attachment; filename="report.pdf"`},
		{"spaces", ` two words `, `attachment; filename=" two words "`},
		{"empty", ``, `attachment; filename=""`},
		{"percent", `100%20.txt`, `attachment; filename="100%20.txt"`},
		{"semicolon", `a;b=c`, `attachment; filename="a;b=c"`},
		// A path is kept, as the API does it; browsers and this tool's download cut it off.
		{"path", `../../etc/passwd`, `attachment; filename="../../etc/passwd"`},
		{"edges of printable ASCII", " ~", `attachment; filename=" ~"`},
		{"300 characters", strings.Repeat("x", 300), `attachment; filename="` + strings.Repeat("x", 300) + `"`},

		{"quote", `a"; filename=b`, `attachment; filename="a_; filename=b"; filename*=UTF-8''a%22%3B%20filename%3Db`},
		{"backslash", `a\b`, `attachment; filename="a_b"; filename*=UTF-8''a%5Cb`},
		{"backslash at the end", `a\`, `attachment; filename="a_"; filename*=UTF-8''a%5C`},
		{"japanese", `日本語.txt`, `attachment; filename="___.txt"; filename*=UTF-8''%E6%97%A5%E6%9C%AC%E8%AA%9E.txt`},
		{"accent", `é 1%2F.txt`, `attachment; filename="_ 1_2F.txt"; filename*=UTF-8''%C3%A9%201%252F.txt`},
		{"emoji", `🎉.png`, `attachment; filename="_.png"; filename*=UTF-8''%F0%9F%8E%89.png`},
		{"newlines", "a\r\nX-Evil: yes\n", `attachment; filename="a__X-Evil: yes_"; filename*=UTF-8''a%0D%0AX-Evil%3A%20yes%0A`},
		{"tab", "a\tb", `attachment; filename="a_b"; filename*=UTF-8''a%09b`},
		{"NUL", "a\x00b", `attachment; filename="a_b"; filename*=UTF-8''a%00b`},
		{"DEL", "a\x7fb", `attachment; filename="a_b"; filename*=UTF-8''a%7Fb`},
		{"right-to-left override", "a\u202efdp.exe", `attachment; filename="a_fdp.exe"; filename*=UTF-8''a%E2%80%AEfdp.exe`},
		{"no UTF-8", "a\xffb", `attachment; filename="a_b"; filename*=UTF-8''a%EF%BF%BDb`},
		{"what RFC 8187 keeps", "é!#$&+-.^_`|~", "attachment; filename=\"_!#$&+-.^_`|~\"; filename*=UTF-8''%C3%A9%21%23%24%26%2B-.%5E_%60%7C~"},
		{"what RFC 8187 quotes with", `é'*`, `attachment; filename="_'*"; filename*=UTF-8''%C3%A9%27%2A`},
		{
			"300 characters, not ASCII", strings.Repeat("é", 300),
			`attachment; filename="` + strings.Repeat("_", 300) + `"; filename*=UTF-8''` + strings.Repeat("%C3%A9", 300),
		},
	} {
		t.Run(test.what, func(t *testing.T) {
			got := presign.ContentDisposition(test.name)
			if got != test.want {
				t.Errorf("ContentDisposition(%q)\n got: %s\nwant: %s", test.name, got, test.want)
			}
			checkDisposition(t, test.name, got)
		})
	}
}

// checkDisposition reads the header as its receiver does: one file name, and nothing else.
func checkDisposition(t *testing.T, name, header string) {
	t.Helper()
	for _, r := range header {
		if r < ' ' || r > '~' {
			t.Fatalf("name %q: the header is not printable ASCII: %q", name, header)
		}
	}
	disposition, parameters, err := mime.ParseMediaType(header)
	if err != nil {
		t.Fatalf("name %q: header %q: %v", name, header, err)
	}
	// ParseMediaType folds filename* into filename, and prefers it.
	want := strings.ToValidUTF8(name, "\uFFFD")
	if got, ok := parameters["filename"]; !ok || got != want || len(parameters) != 1 || disposition != "attachment" {
		t.Errorf("name %q: header %q was read as %q with %q", name, header, disposition, parameters)
	}
	// A receiver that knows no filename* falls back on the first parameter.
	fallback, _, extended := strings.Cut(header, `"; filename*=UTF-8''`)
	if extended {
		fallback += `"`
	}
	if _, parameters, err := mime.ParseMediaType(fallback); err != nil || len(parameters) != 1 {
		t.Errorf("name %q: fallback %q was read as %q, error %v", name, fallback, parameters, err)
	}
}
