package testserver

import "testing"

// MinIO starts a MinIO server of its own for t. It skips the test where MinIO is not
// installed ("make tools"); with the environment variable CI set it fails instead.
func MinIO(t testing.TB) S3 {
	t.Helper()
	return s3Program{
		name: "minio",
		args: func(address, data string) []string {
			return []string{"server", "--quiet", "--address", address, data}
		},
		env: func(s S3) []string {
			return []string{
				"MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey,
				"MINIO_BROWSER=off", // no second port
				"MINIO_UPDATE=off",  // no look for a new version
			}
		},
	}.start(t)
}
