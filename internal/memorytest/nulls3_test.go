//go:build linux

package memorytest

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/minio/crc64nvme"
)

// nullS3 is an S3 server that keeps nothing of a body but its checksum, and gives content for
// every object.
type nullS3 struct {
	content *content
	sum     string // CRC-64/NVME of content
	// whole is called when an upload is complete and right, before the answer: its client waits, and
	// has needed all the memory that the upload takes.
	whole func()

	mu    sync.Mutex
	parts map[int]part
}

type part struct {
	size int64
	sum  string
}

const etag = `"d41d8cd98f00b204e9800998ecf8427e-1"`

func (s *nullS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	switch has := query.Has; {
	case r.Method == http.MethodPost && has("uploads"):
		w.Header().Set("X-Amz-Checksum-Algorithm", r.Header.Get("X-Amz-Checksum-Algorithm"))
		fmt.Fprint(w, "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
	case r.Method == http.MethodPut && has("partNumber"):
		number, err := strconv.Atoi(query.Get("partNumber"))
		if err == nil {
			err = s.uploadPart(r, number)
		}
		if err != nil {
			refuse(w, err)
			return
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("X-Amz-Checksum-Crc64nvme", r.Header.Get("X-Amz-Checksum-Crc64nvme"))
	case r.Method == http.MethodPost && has("uploadId"):
		if err := s.complete(r); err != nil {
			refuse(w, err)
			return
		}
		s.whole()
		fmt.Fprintf(w, "<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>", etag)
	case r.Method == http.MethodGet && !has("uploadId"), r.Method == http.MethodHead:
		w.Header().Set("ETag", etag)
		w.Header().Set("X-Amz-Checksum-Crc64nvme", s.sum)
		w.Header().Set("X-Amz-Checksum-Type", "FULL_OBJECT")
		http.ServeContent(w, r, "", time.Time{}, s.content.reader(0, s.content.size))
	default:
		refuse(w, fmt.Errorf("unexpected %s %s", r.Method, r.URL))
	}
}

func refuse(w http.ResponseWriter, err error) {
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, "<Error><Code>InvalidRequest</Code><Message>%s</Message></Error>", err)
}

func (s *nullS3) uploadPart(r *http.Request, number int) error {
	h := crc64nvme.New()
	if err := copyTo(h, r.Body); err != nil {
		return err
	}
	p := part{size: r.ContentLength, sum: encode(h)}
	if header := r.Header.Get("X-Amz-Checksum-Crc64nvme"); header != p.sum {
		return fmt.Errorf("part %d has the checksum %s, and its header says %s", number, p.sum, header)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parts == nil {
		s.parts = make(map[int]part)
	}
	s.parts[number] = p
	return nil
}

// complete compares the parts, one after the other, with the content.
func (s *nullS3) complete(r *http.Request) error {
	var in struct {
		Part []struct{ PartNumber int }
	}
	if err := xml.NewDecoder(r.Body).Decode(&in); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var at int64
	for _, listed := range in.Part {
		p := s.parts[listed.PartNumber]
		if want := s.content.checksum(at, at+p.size); p.sum != want {
			return fmt.Errorf("part %d, from byte %d, has the checksum %s, want %s", listed.PartNumber, at, p.sum, want)
		}
		at += p.size
	}
	if at != s.content.size || r.Header.Get("X-Amz-Checksum-Crc64nvme") != s.sum {
		return fmt.Errorf("%d bytes with the checksum %s, want %d, %s", at, r.Header.Get("X-Amz-Checksum-Crc64nvme"), s.content.size, s.sum)
	}
	return nil
}
