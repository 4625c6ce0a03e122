package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// FuzzUnits: whatever is given as a duration, a size, a rate, a time or a checksum is refused with what was given, or
// is in range and is read again as what it is shown as.
func FuzzUnits(f *testing.F) {
	for _, s := range []string{
		"", "0", "-5", "90s", "1h30m", "7d", "36500d", "-36501d", "99999999999", "1e9s", "8M", "16MiB", "9223372036854775807", "8388608T", "8BiM", "500K/s", "/s",
		"2026-11-23", "2026-11-23T14:50:17Z", "0001-01-01", "24h", "CRC64NVME:rosUhgp5mIg=", "sha256:", "\x00", "\xff", "𝟗s", "9223372036854775807ns", "２",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := parseDuration(s); err == nil {
			if again, err := parseDuration(shortDuration(d)); err != nil || again != d {
				t.Errorf("duration %q is %v, shown as %q, read as %v (%v)", s, d, shortDuration(d), again, err)
			}
		}
		var b byteSize
		if err := b.Set(s); err == nil && b < 0 {
			t.Errorf("size %q is %d", s, b)
		}
		var r byteRate
		if err := r.Set(s); err == nil && r < 0 {
			t.Errorf("rate %q is %d", s, r)
		}
		_, _ = b.String(), r.String()
		var p pointInTime
		now := time.Date(2026, 11, 23, 14, 50, 17, 0, time.UTC)
		if err := p.Set(s); err == nil && (p.at(now).IsZero() || p.absolute.IsZero() && p.at(now).After(now)) {
			t.Errorf("time %q is %v", s, p.at(now))
		}
		var c checksumFlag
		if err := c.Set(s); err == nil {
			var again checksumFlag
			if err := again.Set(c.String()); err != nil || again != c {
				t.Errorf("checksum %q is shown as %q (%v)", s, c.String(), err)
			}
		}
	})
}

// FuzzSettings: no variable or flag makes it crash, whatever it holds.
func FuzzSettings(f *testing.F) {
	for _, s := range []string{"", "true", "no", "/srv", "\x00", "7d", "-1", "1e400", "8M", "b\r\nX: y", "https://me:pw@h", "://"} {
		f.Add(s, s, s)
		f.Add("bucket", s, "")
		f.Add("", s, "true")
	}
	f.Fuzz(func(t *testing.T, bucket, value, local string) {
		env := map[string]string{
			"FILESTORE_BUCKET": bucket, "FILESTORE_LOCAL": local, "FILESTORE_TABLE": value, "FILESTORE_URL_EXPIRATION": value,
			"FILESTORE_TEMPORARY_LIFETIME": value, "FILESTORE_STORE_ON_LOAD": value, "FILESTORE_BWLIMIT": value, "FILESTORE_TIMEOUT": value,
		}
		for _, omitted := range []string{"", "FILESTORE_URL_EXPIRATION", "FILESTORE_TEMPORARY_LIFETIME", "FILESTORE_BWLIMIT"} {
			delete(env, omitted)
			a := &app{lookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
			root := &cobra.Command{}
			a.flags.register(root)
			a.flags.changed = root.PersistentFlags().Changed
			s, err := a.settings()
			if err != nil {
				continue
			}
			if s.URLLifetime < time.Second || s.URLLifetime > 7*24*time.Hour || s.TemporaryLifetime <= 0 || s.bandwidth < 0 || !s.local && s.bucket == "" {
				t.Errorf("%v leads to %+v", env, s)
			}
		}
		isEndpoint(value)
	})
}

// FuzzHide: of no text is anything left that proves who has signed, and what has nothing of it stays as it is.
func FuzzHide(f *testing.F) {
	for _, s := range []string{"", "no such file", "X-Amz-Signature=0af9&x", "signature=signature=0af9", "Credential=%3D", "x-amz-security-token: a", "Signature%3d", "\xffSignature=\xff", "SIGNATURE=KEY-OF-ALL-KEYS"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		const key = "KEY-OF-ALL-KEYS"
		var all secrets
		all.add(key)
		got := all.hide(s)
		if strings.Contains(got, key) || signed().MatchString(got) {
			t.Errorf("%q became %q", s, got)
		}
		if lower := strings.ToLower(s); !strings.Contains(s, key) && !strings.Contains(lower, "signature") && !strings.Contains(lower, "credential") &&
			!strings.Contains(lower, "token") && got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}
