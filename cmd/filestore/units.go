package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// duration is a flag or setting: a Go duration ("90m", "1h30m"), days ("7d"), or a bare number
// of seconds, as the API's settings have it.
type duration time.Duration

// Set implements pflag.Value.
func (d *duration) Set(s string) error {
	parsed, err := parseDuration(s)
	if err != nil {
		return err
	}
	*d = duration(parsed)
	return nil
}

func (d *duration) String() string {
	if *d == 0 {
		return "" // the help shows no default: each flag that begins with 0 says what that means
	}
	return shortDuration(time.Duration(*d))
}

// Type implements pflag.Value.
func (d *duration) Type() string { return "duration" }

func parseDuration(s string) (time.Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		const century = 36500 // days; more would soon be more than a time.Duration holds
		if days, err := strconv.ParseInt(n, 10, 32); err == nil && -century <= days && days <= century {
			return time.Duration(days) * 24 * time.Hour, nil
		}
	}
	if seconds, err := strconv.ParseInt(s, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 90s, 15m, 1h30m or 7d", s)
	}
	return d, nil
}

// byteSize is a flag: a number of bytes, with K, M, G or T (and KiB, MiB, ...) for powers of 1024.
type byteSize int64

// Set implements pflag.Value.
func (b *byteSize) Set(s string) error {
	number := strings.TrimRight(s, "KMGTiB")
	shift, ok := map[string]int{"": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40}[strings.TrimSuffix(s[len(number):], "iB")]
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !ok || n < 0 || n > math.MaxInt64>>shift {
		return fmt.Errorf("%q is not a size such as 8M or 16MiB", s)
	}
	*b = byteSize(n << shift)
	return nil
}

func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return iecSize(int64(*b))
}

// Type implements pflag.Value.
func (b *byteSize) Type() string { return "size" }

// byteRate is a flag or setting: bytes a second, written as a byteSize, with or without "/s".
type byteRate int64

// Set implements pflag.Value.
func (r *byteRate) Set(s string) error {
	if err := (*byteSize)(r).Set(strings.TrimSuffix(s, "/s")); err != nil {
		return fmt.Errorf("%q is not a rate such as 8M or 500K, in bytes a second", s)
	}
	return nil
}

func (r *byteRate) String() string {
	if *r == 0 {
		return ""
	}
	return iecSize(int64(*r)) + "/s"
}

// Type implements pflag.Value.
func (r *byteRate) Type() string { return "rate" }

// shortDuration writes 1h0m0s as 1h.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// iecSize writes a number of bytes for people: 1536 is "1.5 KiB".
func iecSize(bytes int64) string {
	if bytes < 1024 {
		return strconv.FormatInt(bytes, 10) + " B"
	}
	size, unit := float64(bytes)/1024, 0
	const units = "KMGTPE"
	for size >= 1023.95 && unit < len(units)-1 {
		size /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", size, units[unit])
}

// printable returns s with everything escaped that could move a terminal's cursor, change its
// colours, or make text look like other text: control and format characters, and bytes that are
// no UTF-8.
func printable(s string) string {
	return escape(s, isPlain)
}

func isPlain(r rune) bool { return r == ' ' || unicode.IsPrint(r) }

// tsvField returns s for one field of tab-separated output, where a tab or a line break would
// be taken for the end of the field: the same escapes as for a terminal, and every other
// character as it is.
func tsvField(s string) string {
	s = strings.ReplaceAll(s, `\`, `\\`)
	return escape(s, func(r rune) bool { return !unicode.IsControl(r) })
}

func escape(s string, plain func(rune) bool) string {
	return escapeRunes(s, plain, func(r rune) string {
		quoted := strconv.QuoteRuneToASCII(r)
		return quoted[1 : len(quoted)-1]
	})
}

// escapeRunes replaces the runes that are not plain, and writes bytes that are no UTF-8 as \xhh.
func escapeRunes(s string, plain func(rune) bool, escaped func(rune) string) string {
	clean := true
	for i, r := range s {
		if !plain(r) || r == utf8.RuneError && isInvalid(s[i:]) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && isInvalid(s[i:]):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case plain(r):
			b.WriteRune(r)
		default:
			b.WriteString(escaped(r))
		}
	}
	return b.String()
}

func isInvalid(s string) bool {
	r, size := utf8.DecodeRuneInString(s)
	return r == utf8.RuneError && size == 1
}

// thousands puts commas into a number in plain digits: 12345.5 is "12,345.5".
func thousands(digits string) string {
	whole, fraction, _ := strings.Cut(digits, ".")
	sign := ""
	if rest, ok := strings.CutPrefix(whole, "-"); ok {
		sign, whole = "-", rest
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return sign + whole
}

// thousandsOf is plural for large numbers.
func thousandsOf(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(strconv.FormatInt(n, 10)) + " " + many
}

// addNew appends what is not in the list yet, for a flag that may be repeated.
func addNew[S ~[]E, E comparable](list S, all ...E) S {
	for _, e := range all {
		if !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	return list
}

// joinNames is a list of names as a text.
func joinNames[S ~[]E, E ~string](list S, separator string) string {
	names := make([]string, len(list))
	for i, name := range list {
		names[i] = string(name)
	}
	return strings.Join(names, separator)
}
