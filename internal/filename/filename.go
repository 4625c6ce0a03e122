// Package filename makes local file names out of the names in records. A record's name comes
// from whoever uploaded the file and is hostile until proven otherwise: it may hold a path, a
// device, a terminal's escape sequence, or 300 kilobytes.
//
// The names are the same on every platform and safe on all of them, so that what one user
// downloads can be copied to another's machine. The rules on characters, trailing dots and device
// names are Microsoft's ("Naming Files, Paths, and Namespaces"); that the path is cut off is RFC
// 6266, section 4.3.
//
// The package only makes names. That a file of that name does not exist yet is for the caller
// to see to, when it creates the file.
package filename

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxName is the longest name in bytes. Common file systems take 255 bytes or 255 UTF-16
	// code units, which are never more than the bytes.
	maxName = 255
	// maxExtension is the longest extension in bytes, dot included, that a cut keeps whole.
	maxExtension = 16
)

// Safe returns the name under which to save the file that a record calls name, at most 255
// bytes of UTF-8. It is
//
//   - the last element of name, after every / and \;
//   - with _ for each character that Windows forbids (<>:"|?*), that is not shown (controls,
//     line separators, the format characters that turn the direction of text, fillers), that has
//     no meaning of its own (private use, unassigned: some systems write forbidden characters
//     with them), and for each byte that is not UTF-8;
//   - without white space around it and without dots at its end, which Windows drops in silence;
//   - with _ for dots at its start, which would hide the file, and for a hyphen there, which
//     would make an option of it when a shell expands a *;
//   - with _ before the name of a Windows device, with or without an extension;
//   - cut to length before the extension, never inside a character with its accents.
//
// A name of which nothing is left (empty, ".", "..", a path that ends in a separator) gives id,
// which must have the form of docs/contract.md, "The parts": such an id is a safe name.
//
// A name that Safe returned is returned as it is.
func Safe(name, id string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = trimEnd(strings.TrimLeftFunc(strings.Map(replace, name), unicode.IsSpace))
	if name == "" {
		return id
	}

	if visible := strings.TrimLeft(name, "."); visible != name {
		name = strings.Repeat("_", len(name)-len(visible)) + visible
	}
	if rest, ok := strings.CutPrefix(name, "-"); ok {
		name = "_" + rest
	}
	name = shorten(name, "")
	// Only now: a cut can leave a device's name, of CON and 300 spaces for example.
	if isDevice(name) {
		name = shorten("_"+name, "")
	}
	return name
}

// Distinct returns what [Safe] returns with a hyphen and id before the extension, at most 255
// bytes: the name for a file whose safe name another file of the same download has taken. Where
// the ids differ, the names differ, also as [Fold] compares them.
func Distinct(name, id string) string {
	return shorten(Safe(name, id), "-"+id)
}

// Fold returns a key for name: two names with one key are, or may be, one file to a file system
// that ignores case, as those of Windows and macOS do by default. It is the simple case folding
// of Unicode: the keys of a and b are equal where strings.EqualFold(a, b). It does not
// normalize: an é in one and in two characters are two keys, though one file to macOS.
func Fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, name)
}

// replace returns r, or _ where r must not be in a name. For a byte that is not UTF-8 r is
// U+FFFD, which may be in the name as well, where somebody else has replaced it already.
func replace(r rune) rune {
	switch {
	case strings.ContainsRune(`<>:"|?*`, r),
		r == utf8.RuneError,
		!unicode.IsGraphic(r),
		unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r):
		return '_'
	}
	return r
}

// trimEnd removes white space and dots from the end of name.
func trimEnd(name string) string {
	return strings.TrimRightFunc(name, func(r rune) bool { return r == '.' || unicode.IsSpace(r) })
}

// shorten puts suffix before the extension of name and cuts what stands before it, so that the
// whole has at most maxName bytes.
func shorten(name, suffix string) string {
	stem, ext := split(name)
	if limit := maxName - len(suffix) - len(ext); len(stem) > limit {
		stem = trimEnd(cut(stem, limit))
	}
	return stem + suffix + ext
}

// split divides name before its extension, or before both of them where it ends in .tar.gz or
// the like. The extension is empty where what follows the dot is too long for one or holds white
// space, as in "1. First chapter". The stem never is.
func split(name string) (stem, ext string) {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 || len(name)-dot > maxExtension || strings.ContainsFunc(name[dot:], unicode.IsSpace) {
		return name, ""
	}
	const tar = ".tar"
	if both := dot - len(tar); both > 0 && len(name)-both <= maxExtension && strings.EqualFold(name[both:dot], tar) {
		dot = both
	}
	return name[:dot], name[dot:]
}

// cut returns the first limit bytes of s or a few less, so that no character is cut apart, nor
// from the accents, variation selectors and skin tones that follow it.
func cut(s string, limit int) string {
	for end := limit; end > 0; end-- {
		if r, _ := utf8.DecodeRuneInString(s[end:]); utf8.RuneStart(s[end]) && !isExtending(r) {
			return s[:end]
		}
	}
	// Nothing but accents.
	for !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// isExtending reports whether r belongs to the character before it: most of what "Unicode Text
// Segmentation" (UAX 29) calls Extend and SpacingMark.
func isExtending(r rune) bool {
	return unicode.IsMark(r) || '\U0001F3FB' <= r && r <= '\U0001F3FF'
}

// isDevice reports whether Windows, in one of its versions, opens a device for name: what stands
// before the first dot counts, without the spaces at its end.
func isDevice(name string) bool {
	name, _, _ = strings.Cut(name, ".")
	name = strings.ToUpper(strings.TrimRight(name, " "))
	switch name {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	number, ok := strings.CutPrefix(name, "COM")
	if !ok {
		number, ok = strings.CutPrefix(name, "LPT")
	}
	return ok && utf8.RuneCountInString(number) == 1 && strings.Contains("0123456789¹²³", number)
}
