package presign_test

import (
	"fmt"
	"net/url"
	"time"

	"github.com/designfultech/filestore/internal/presign"
)

// A download URL for a day, signed with temporary credentials that last for an hour.
func Example() {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	signer := presign.Signer{
		Region: "eu-west-1",
		Bucket: "filestore-project",
		Credentials: presign.Credentials{
			AccessKeyID:     "ASIAIOSFODNN7EXAMPLE",
			SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
			SessionToken:    "IQoJb3JpZ2luX2Vj",
			Expires:         now.Add(time.Hour),
		},
	}
	download, err := signer.Get("abcdefghij012345", "naïve.txt", "text/plain", now, 24*time.Hour)
	if err != nil {
		fmt.Println(err)
		return
	}
	u, err := url.Parse(download.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(u.Host + u.Path)
	fmt.Println(u.Query().Get("response-content-disposition"))
	fmt.Println("ends", download.Expires)
	// Output:
	// s3.eu-west-1.amazonaws.com/filestore-project/abcdefghij012345
	// attachment; filename="na_ve.txt"; filename*=UTF-8''na%C3%AFve.txt
	// ends 2026-01-02 04:04:05 +0000 UTC
}

// An upload URL for others, which takes only this size and type, and only once.
func ExampleSigner_Put() {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	signer := presign.Signer{
		Endpoint: "http://localhost:9000",
		Region:   "us-east-1",
		Bucket:   "filestore-project",
		Credentials: presign.Credentials{
			AccessKeyID:     "AKIAIOSFODNN7EXAMPLE",
			SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		},
	}
	upload, err := signer.Put("abcdefghij012345", now, time.Hour, presign.Limits{
		Size:        new(int64(1024)),
		ContentType: "image/png",
		IfNoneMatch: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("send along:")
	for _, name := range []string{"Content-Length", "Content-Type", "If-None-Match"} {
		fmt.Println(name+":", upload.Header.Get(name))
	}
	// Output:
	// send along:
	// Content-Length: 1024
	// Content-Type: image/png
	// If-None-Match: *
}
