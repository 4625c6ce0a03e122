package testserver

import "testing"

// Versitygw starts a stock Versity S3 Gateway of its own for t, with the posix backend, which
// needs a file system with extended attributes. It skips the test where versitygw is not
// installed ("make tools"); with the environment variable CI set it fails instead.
func Versitygw(t testing.TB) S3 {
	t.Helper()
	return s3Program{
		name: "versitygw",
		args: func(address, data string) []string {
			return []string{"--quiet", "--port", address, "posix", data}
		},
		env: func(s S3) []string {
			return []string{"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey, "VGW_REGION=" + s.Region}
		},
	}.start(t)
}
