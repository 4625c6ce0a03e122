package presign

import "strings"

// ContentDisposition returns the header Content-Disposition that makes a browser save an
// object under name. It has one of two forms (RFC 6266, section 5, with RFC 8187):
//
//	attachment; filename="NAME"
//	attachment; filename="FALLBACK"; filename*=UTF-8''ENCODED
//
// The first is the API's, for names of printable ASCII without a double quote and a backslash.
// All others take the second: every client of today reads filename*, which holds the whole
// name; FALLBACK is its ASCII, with _ for everything else. What is not UTF-8 in name is
// encoded as U+FFFD. No name adds a parameter or a header.
//
// The name arrives as it was given: a path stays a path, and who saves the file must not
// trust it (RFC 6266, section 4.3).
func ContentDisposition(name string) string {
	if isPrintable(name) && !strings.ContainsAny(name, `"\`) {
		return `attachment; filename="` + name + `"`
	}
	name = strings.ToValidUTF8(name, "\uFFFD")
	fallback := strings.Map(func(r rune) rune {
		// A percent sign would make some clients decode the fallback (RFC 6266, appendix D).
		if r < ' ' || r > '~' || strings.ContainsRune(`"\%`, r) {
			return '_'
		}
		return r
	}, name)
	// escape leaves fewer characters alone than RFC 8187's attr-char allows.
	return `attachment; filename="` + fallback + `"; filename*=UTF-8''` + escape(name)
}

// responseType returns the Content-Type to ask for: the text before the first ";", as
// docs/contract.md, "The record", has it, if that is a MIME type.
func responseType(mimeType string) string {
	if mimeType == "" {
		return "" // as the API
	}
	essence, _, _ := strings.Cut(mimeType, ";")
	essence = strings.Trim(essence, " \t")
	main, sub, ok := strings.Cut(essence, "/")
	if !ok || !isToken(main) || !isToken(sub) {
		return "application/octet-stream"
	}
	return essence
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, notIn("!#$%&'*+-.^_`|~"))
}

// isPrintable reports whether s is nothing but printable ASCII, the space included.
func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
