package client

import "crypto/rand"

const (
	idLength   = 16
	idAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
)

// NewID returns a random id: 16 characters of a-z0-9 from a cryptographic source
// (docs/contract.md, "The parts"). It never fails: crypto/rand ends the program where it has no randomness.
func NewID() string {
	var random [idLength]byte
	return idFrom(func() []byte {
		_, _ = rand.Read(random[:]) // documented never to fail
		return random[:]
	})
}

// idFrom makes an id of the bytes that next returns, which are all equally likely. Those that would
// make some characters likelier than others are thrown away.
func idFrom(next func() []byte) string {
	const fair = 256 - 256%len(idAlphabet)
	id := make([]byte, 0, idLength)
	for {
		for _, b := range next() {
			if int(b) >= fair {
				continue
			}
			if id = append(id, idAlphabet[int(b)%len(idAlphabet)]); len(id) == idLength {
				return string(id)
			}
		}
	}
}

// ValidID reports whether s has the form of an id. Nothing else is ever sent to the table.
func ValidID(s string) bool {
	if len(s) != idLength {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
