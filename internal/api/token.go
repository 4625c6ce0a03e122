package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A token lets whoever got it with POST /file take that one file back (docs/contract.md, "Taking an upload back"): its
// end of life in seconds since 1970, a dot, and the HMAC-SHA256 (RFC 2104) of this, the id and what it is for, in
// base64url.
//
// Nothing of it is kept here: any process with the same key knows it again.
func (h *handler) token(id string, end int64) string {
	text := strconv.FormatInt(end, 10)
	mac := hmac.New(sha256.New, h.tokenKey)
	mac.Write([]byte("filestore revert\n" + id + "\n" + text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// tokenEnd is the end of life of a token that is made now: a file that nobody stores is gone by then.
func (h *handler) tokenEnd() int64 {
	return h.client.Now().Add(h.client.Settings.URLLifetime + h.client.Settings.TemporaryLifetime).Unix()
}

// accepts reports whether token is one for id, and its time is not over. The whole text is compared, so that there is
// one way to write a token.
func (h *handler) accepts(id, token string) bool {
	if len(h.tokenKey) == 0 {
		return false
	}
	text, _, _ := strings.Cut(token, ".")
	end, err := strconv.ParseInt(text, 10, 64)
	return err == nil && hmac.Equal([]byte(h.token(id, end)), []byte(token)) && h.client.Now().Before(time.Unix(end, 0))
}

// bearer returns the token of the header Authorization (RFC 6750, "Authorization Request Header Field"), which the
// contract's CORS allows already.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
