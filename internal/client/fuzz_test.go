package client

import (
	"slices"
	"testing"
)

// FuzzID: of whatever randomness, an id has the form that ValidID knows, and nothing else is taken for one that could
// be a path, a key of something else, or two words.
func FuzzID(f *testing.F) {
	for _, s := range []string{"", "3p1xk0s9d2mfa7qz", "../../etc/passwd", "ABCDEFGHIJKLMNOP", "aaaaaaaaaaaaaaa\n", "aaaaaaaaaaaaaaaé", "\x00\xff\xfe"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ValidID(s) {
			for _, c := range []byte(s) {
				if !slices.Contains([]byte(idAlphabet), c) {
					t.Errorf("%q is taken for an id", s)
				}
			}
			if len(s) != idLength {
				t.Errorf("%q is taken for an id", s)
			}
		}
		if id := DerivedID(s, len(s)); !ValidID(id) || DerivedID(s, len(s)) != id {
			t.Errorf("%q leads to %q", s, id)
		}
		// Enough of it to be fair, in the end.
		random := append([]byte(s), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
		if id := idFrom(func() []byte { return random }); !ValidID(id) {
			t.Errorf("%q makes %q", s, id)
		}
	})
}
