// Package page is the upload page of a filestore and what it is made of: FilePond, and filestore.js, which has it
// upload to presigned URLs (docs/browser.md). Everything is in the program; nothing is fetched from elsewhere.
package page

import (
	"bytes"
	"crypto/sha512"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// FilePondVersion is that of the files in assets/filepond, which are those of the npm package.
const FilePondVersion = "4.32.12"

// maxFiles is how many files a form takes: as many ids as a backend can store with one call
// (docs/contract.md, "How many ids").
const maxFiles = 10

// Where pages find the parts. FilePond's name has its version, so that what is once there never changes.
const (
	filePondJS      = "/assets/filepond-" + FilePondVersion + ".min.js"
	filePondCSS     = "/assets/filepond-" + FilePondVersion + ".min.css"
	filePondLicence = "/assets/filepond-" + FilePondVersion + ".licence.txt"
	adapterJS       = "/assets/filestore.js"
	pageJS          = "/assets/page.js"
	pageCSS         = "/assets/page.css"
)

//go:embed assets
var files embed.FS

//go:embed page.html
var pageHTML string

// Options say where the page is, among what.
type Options struct {
	// S3 is any URL on the server to which presigned URLs lead, such as one of them, or
	// "https://s3.eu-central-1.amazonaws.com".
	S3 string
	// Action is the URL of a backend that gets the ids of the form, as values of "file". Empty: there is no form
	// to submit, and the page shows the command that stores the files.
	Action string
	// These are the settings of the filestore.
	URLLifetime, TemporaryLifetime time.Duration
	StoreOnLoad                    bool
}

// asset is a part that pages load.
type asset struct {
	Path      string
	Integrity string // as the attribute of that name takes it (W3C, "Subresource Integrity")
	kind      string // its Content-Type
	content   []byte
	lasting   bool // the content at Path never changes
}

// Handler serves the page at "/", for GET and HEAD, and its parts below "/assets/", which other pages may load too. It
// answers 404 for every other path. The page may connect to where it is from, where the API is expected, and to S3.
func Handler(opts Options) http.Handler {
	mux := http.NewServeMux()
	parts := assets()
	for _, a := range parts {
		mux.Handle("GET "+a.Path, a)
	}
	content := render(opts, parts)
	tag := `"` + digest(content) + `"`
	policy := contentSecurityPolicy(opts)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		// The backend sees from which server its form comes, and nobody sees more.
		h.Set("Referrer-Policy", "strict-origin")
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
	return mux
}

// assets returns the parts by their names in the program.
func assets() map[string]asset {
	const script, style = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
	parts := map[string]asset{
		"filepond/filepond.min.js":  {Path: filePondJS, kind: script, lasting: true},
		"filepond/filepond.min.css": {Path: filePondCSS, kind: style, lasting: true},
		"filepond/LICENSE":          {Path: filePondLicence, kind: "text/plain; charset=utf-8", lasting: true},
		"filestore.js":              {Path: adapterJS, kind: script},
		"page.js":                   {Path: pageJS, kind: script},
		"page.css":                  {Path: pageCSS, kind: style},
	}
	for name, a := range parts {
		content, err := files.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // it is part of the program
		}
		a.content, a.Integrity = content, "sha384-"+digest(content)
		parts[name] = a
	}
	return parts
}

func digest(content []byte) string {
	sum := sha512.Sum384(content)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// ServeHTTP answers with the part. A page of any origin may load it and have its integrity checked.
func (a asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Cache-Control", "no-cache")
	if a.lasting {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	h.Set("ETag", `"`+a.Integrity+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.content))
}

// render returns the page.
func render(opts Options, parts map[string]asset) []byte {
	data := struct {
		Options
		Styles, Scripts []asset
		Most            int
		Lifetime        string
		Longest         string // an upload may take: a sweep then takes its file for abandoned (docs/contract.md)
		LifetimeMillis  int64
		Licence         string
	}{
		Options:        opts,
		Styles:         []asset{parts["filepond/filepond.min.css"], parts["page.css"]},
		Scripts:        []asset{parts["filepond/filepond.min.js"], parts["filestore.js"], parts["page.js"]},
		Lifetime:       inWords(opts.TemporaryLifetime),
		Longest:        inWords(opts.URLLifetime + opts.TemporaryLifetime),
		LifetimeMillis: opts.TemporaryLifetime.Milliseconds(),
		Licence:        filePondLicence,
	}
	if opts.Action != "" {
		data.Most = maxFiles
	}
	var out bytes.Buffer
	if err := template.Must(template.New("page").Parse(pageHTML)).Execute(&out, data); err != nil {
		panic(err) // the template is part of the program
	}
	return out.Bytes()
}

// contentSecurityPolicy allows the page what it does: its own scripts and styles, no other, and
// connections to the API and to S3 (W3C, "Content Security Policy Level 3").
func contentSecurityPolicy(opts Options) string {
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self' data:",
		strings.TrimSpace("connect-src 'self' " + source(opts.S3)),
		strings.TrimSpace("form-action 'self' " + source(opts.Action)),
		"base-uri 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

// source returns the origin of a URL as a policy names it, and "" where the URL has none.
func source(of string) string {
	u, err := url.Parse(of)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	if strings.Contains(u.Hostname(), ":") || strings.ContainsAny(u.Host, "; ,'") {
		return u.Scheme + ":" // a policy has no form for an IPv6 address
	}
	return u.Scheme + "://" + u.Host
}

// inWords returns a time such as "1 hour" or "90 minutes".
func inWords(d time.Duration) string {
	for _, unit := range []struct {
		name string
		of   time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if n := d / unit.of; n > 0 && d%unit.of == 0 {
			if n == 1 {
				return "1 " + unit.name
			}
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return d.String()
}
