package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/designfultech/filestore/internal/policy"
	"github.com/designfultech/filestore/internal/testserver"
)

// A checksum is given as "info --checksum" prints it, or in the digits of sha256sum and its like.
func TestChecksumFlag(t *testing.T) {
	for text, want := range map[string]string{
		"CRC64NVME:rosUhgp5mIg=":                                                  "CRC64NVME:rosUhgp5mIg=",
		"crc64nvme:ae8b14860a799888":                                              "CRC64NVME:rosUhgp5mIg=",
		"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=":                     "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
		"sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855": "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
	} {
		var got checksumFlag
		if err := got.Set(text); err != nil || got.String() != want {
			t.Errorf("%q: got %q, error %v, want %q", text, got.String(), err, want)
		}
	}
	for _, text := range []string{
		"", ":", "rosUhgp5mIg=", "CRC64NVME", "CRC64NVME:", "CRC64NVME:rosUhgp5mIg", "CRC64NVME:ae8b14860a79988", "CRC64NVME:zz8b14860a799888",
		"SHA256:rosUhgp5mIg=", "MD5:1B2M2Y8AsgTpgAmY7PhCfg==", "SHA256:rosUhgp5mIg=\r\nX: y",
	} {
		var got checksumFlag
		if err := got.Set(text); err == nil {
			t.Errorf("%q is taken for %q", text, got.String())
		}
	}
}

// On MinIO an upload URL may be used to copy another object, if the key that has signed it may read that one. Of no other
// server does presign_limits.txtar find that.
func TestUploadURLCopies(t *testing.T) {
	s := newSite(t, testserver.MinIO(t), testserver.Dynalite(t))
	secret := s.stored(t, 10)
	copied := func() int {
		t.Helper()
		url := strings.TrimSpace(s.run(t, exitOK, "presign", "put", "--url", "--size", "0", "a.txt"))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Checksum-Sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
		r.Header.Set("X-Amz-Copy-Source", "/"+s.bucket+"/"+secret)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if status := copied(); status != http.StatusOK {
		t.Errorf("status %d: MinIO refuses it by now; say so in SECURITY.md", status)
	}
	s.restrict(t, "put", printed{Version: "2012-10-17", Statement: []policy.Statement{
		{Effect: "Allow", Action: []string{"s3:PutObject"}, Resource: "arn:aws:s3:::" + s.bucket + "/*"},
	}})
	if status := copied(); status != http.StatusForbidden {
		t.Errorf("status %d, though the key may not read the object", status)
	}
}
