package main

import "testing"

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
