package main

import (
	"slices"
	"strings"
	"sync"
)

// secrets keeps keys and signatures out of what is written about files: messages, the texts of errors in JSON,
// the audit. They get there in what a server says of a request, for one that repeats it, or when somebody
// hands a presigned URL over where an id or a file is wanted. Logs are kept long and are read by many.
type secrets struct {
	mu    sync.Mutex
	known []string
}

// hidden stands for what is not shown.
const hidden = "(hidden)"

// add has values hidden from now on. They are those that are secret by themselves: the id of a key is not.
func (s *secrets) add(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		// A shorter one is no key, and would make holes into every text.
		if len(v) >= 8 && !slices.Contains(s.known, v) {
			s.known = append(s.known, v)
		}
	}
}

// hide returns text without the secrets that are known, and without what proves in any URL or header of it who has
// signed.
func (s *secrets) hide(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.known {
		text = strings.ReplaceAll(text, v, hidden)
	}
	// The first two are in the header Authorization, and a part of the names of parameters of URLs.
	for _, name := range []string{"Signature", "Credential", "X-Amz-Security-Token"} {
		text = hideValues(text, name, "=", "%3D", "%3d")
	}
	return hideValues(text, "X-Amz-Security-Token", ": ", ":")
}

// hideValues replaces what follows name and one of the signs, whatever case the name is in.
func hideValues(text, name string, signs ...string) string {
	var b strings.Builder
	for {
		at := indexFold(text, name)
		if at < 0 {
			break
		}
		at += len(name)
		rest := text[at:]
		value := rest
		for _, sign := range signs {
			if cut, ok := strings.CutPrefix(rest, sign); ok {
				value = cut
				break
			}
		}
		end := 0
		if len(value) < len(rest) {
			if end = strings.IndexFunc(value, endsValue); end < 0 {
				end = len(value)
			}
		}
		b.WriteString(text[:at])
		b.WriteString(rest[:len(rest)-len(value)])
		if end > 0 {
			b.WriteString(hidden)
		}
		text = value[end:]
	}
	if b.Len() == 0 {
		return text
	}
	return b.String() + text
}

// endsValue reports whether r is neither of base64, hexadecimal digits, nor of what encodes them in URLs.
func endsValue(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("+/=%-_.~", r)
}

// indexFold is strings.Index without regard to the case of ASCII letters.
func indexFold(text, name string) int {
	for i := 0; i+len(name) <= len(text); i++ {
		if strings.EqualFold(text[i:i+len(name)], name) {
			return i
		}
	}
	return -1
}
