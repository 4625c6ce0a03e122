package main

import (
	"crypto/hkdf"
	"crypto/sha256"
	"strings"
)

// minAPIKey is how many bytes each of FILESTORE_API_KEYS has at least: 64 bits in hexadecimal digits. Those of Amazon API
// Gateway have 20 or more.
const minAPIKey = 16

// configuredKeys are those of FILESTORE_API_KEYS, nil where it is not set.
func (a *app) configuredKeys() ([]string, error) {
	text, _ := a.lookupEnv("FILESTORE_API_KEYS")
	if text == "" {
		return nil, nil
	}
	var keys []string
	for key := range strings.SplitSeq(text, ",") {
		if key = strings.TrimSpace(key); key != "" {
			keys = append(keys, key)
		}
	}
	a.secrets.add(keys...)
	if len(keys) == 0 {
		return nil, usagef("", "FILESTORE_API_KEYS has no key")
	}
	for _, key := range keys {
		if len(key) < minAPIKey {
			return nil, usagef(keysHint, "FILESTORE_API_KEYS has a key of %d bytes, and each must have %d or more", len(key), minAPIKey)
		}
	}
	return keys, nil
}

// minTokenKey is how many bytes FILESTORE_TOKEN_KEY has at least: as many as it is of use to have (RFC 2104, "Keys").
const minTokenKey = 32

// configuredTokenKey is what FILESTORE_TOKEN_KEY has tokens signed with, nil where it is not set. All that serve one
// filestore have the same, however they do it.
func (a *app) configuredTokenKey() ([]byte, error) {
	text, _ := a.lookupEnv("FILESTORE_TOKEN_KEY")
	switch {
	case text == "":
		return nil, nil
	case len(text) < minTokenKey:
		return nil, usagef(`"openssl rand -hex 32" makes one`, "FILESTORE_TOKEN_KEY has %d bytes, and must have %d or more", len(text), minTokenKey)
	}
	a.secrets.add(text)
	return hkdf.Key(sha256.New, []byte(text), nil, "filestore: FILESTORE_TOKEN_KEY", 32)
}
