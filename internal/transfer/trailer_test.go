package transfer_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// overTLS returns an engine for s3 at a server with TLS.
func overTLS(t *testing.T, s testserver.S3, server *httptest.Server) *transfer.Engine {
	t.Helper()
	roots := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	a := api{client.NewS3(aws.Config{
		Region: s.Region,
		HTTPClient: client.HTTPClient(time.Minute, nil).WithTransportOptions(func(t *http.Transport) {
			t.TLSClientConfig.RootCAs = roots
		}),
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	}, func(o *s3.Options) { o.BaseEndpoint = &server.URL })}
	return a.engine()
}

// startTLS serves f with TLS until the test ends.
func (f *fakeS3) startTLS(t *testing.T) *transfer.Engine {
	t.Helper()
	server := httptest.NewTLSServer(f)
	t.Cleanup(server.Close)
	return overTLS(t, testserver.S3{AccessKey: "key", SecretKey: "secret", Region: "us-east-1"}, server)
}

// tlsFront has TLS end before what listens at endpoint. The host that was signed stays.
func tlsFront(t *testing.T, endpoint string, seen func(*http.Request)) *httptest.Server {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		seen(r.In)
		r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
		r.Out.Host = r.In.Host
	}})
	t.Cleanup(server.Close)
	return server
}

// Real servers know the checksum behind a part: they compare it, and hold it.
func testTrailersOfRealServers(t *testing.T, s testserver.S3) {
	data := randomBytes(11*mib + 1)
	direct := newClient(s, s.Endpoint)
	upload := func(t *testing.T, endpoint string) (trailed int, object transfer.Object, err error) {
		t.Helper()
		e := overTLS(t, s, tlsFront(t, endpoint, func(r *http.Request) {
			if r.Header.Get("X-Amz-Trailer") != "" {
				trailed++
			}
		}))
		e.Concurrency = 1
		object, err = e.UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil)
		return trailed, object, err
	}
	t.Run("compared", func(t *testing.T) {
		trailed, object, err := upload(t, s.Endpoint)
		if err != nil || object.Verified != "CRC64NVME" || trailed != 3 {
			t.Fatalf("%+v, %v; %d parts with a trailer", object, err, trailed)
		}
		if !bytes.Equal(direct.content(t), data) {
			t.Error("the object is not what was uploaded")
		}
		held, err := direct.engine().Head(t.Context(), key)
		want := transfer.Checksum{Algorithm: "CRC64NVME", Value: checksumOf("CRC64NVME", data), Type: "FULL_OBJECT"}
		if err != nil || !slices.Contains(held.Checksums, want) {
			t.Errorf("it holds %+v, %v", held, err)
		}
	})
	t.Run("a byte flips once", func(t *testing.T) {
		proxy := faultproxy.New(s.Endpoint)
		flip := proxy.Inject(uploadPart, faultproxy.Nth(2), faultproxy.FlipUpload(mib))
		_, object, err := upload(t, proxy.Start(t))
		if err != nil || object.Verified != "CRC64NVME" || flip.Hits() != 1 {
			t.Fatalf("%+v, %v; %d flips", object, err, flip.Hits())
		}
		if !bytes.Equal(direct.content(t), data) {
			t.Error("the object is not what was uploaded")
		}
	})
	t.Run("a byte flips always", func(t *testing.T) {
		direct.remove(t)
		proxy := faultproxy.New(s.Endpoint)
		proxy.Inject(uploadPart, faultproxy.Always(), faultproxy.FlipUpload(mib))
		if _, object, err := upload(t, proxy.Start(t)); err == nil {
			t.Errorf("no error: %+v", object)
		}
		direct.empty(t)
	})
}

// Where the checksum behind a part is not confirmed, that part goes again with its checksum before it,
// and so do all others from then on.
func TestServersWithoutTrailers(t *testing.T) {
	for name, manners := range map[string]trailerManners{
		"ignored": ignoresTrailers, "refused": refusesTrailers, "taken in silence": missesTrailers,
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeS3{knows: []string{"CRC64NVME"}, trailers: manners}
			e := f.startTLS(t)
			e.Concurrency = 1
			data := randomBytes(16 * mib)
			var moved atomic.Int64
			object, err := e.UploadFile(t.Context(), key, "text/plain", bytesFile(data), func(n int64) { moved.Add(n) })
			if err != nil || object.Verified != "CRC64NVME" || moved.Load() != int64(len(data)) {
				t.Fatalf("%+v, %v; %d bytes were said to move", object, err, moved.Load())
			}
			if got := f.object(key); got == nil || !bytes.Equal(got.data, data) {
				t.Error("the object is not what was uploaded")
			}
			var trailed []bool
			for _, r := range f.seen("UploadPart") {
				trailed = append(trailed, r.header.Get("X-Amz-Trailer") != "")
			}
			if want := []bool{true, false, false, false, false}; !slices.Equal(trailed, want) {
				t.Errorf("parts with a trailer: %v, want %v", trailed, want)
			}
		})
	}
}

// changingFile is another one the second time that its beginning is read.
type changingFile struct {
	transfer.File
	begun atomic.Int32
}

func (f *changingFile) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.File.ReadAt(p, offset)
	if offset == 0 && n > 0 && f.begun.Add(1) == 2 {
		p[0]++
	}
	return n, err
}

// A part that differs when it is sent again is of a file that has changed, although each try has the
// checksum of what it sent.
func TestTrailedPartThatChanges(t *testing.T) {
	f := &fakeS3{knows: []string{"CRC64NVME"}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	proxy := faultproxy.New(server.URL)
	lost := proxy.Inject(uploadPart, faultproxy.Nth(1), faultproxy.Reset(faultproxy.After))
	e := overTLS(t, testserver.S3{AccessKey: "key", SecretKey: "secret", Region: "us-east-1"},
		tlsFront(t, proxy.Start(t), func(*http.Request) {}))
	e.Concurrency = 1
	file := &changingFile{File: bytesFile(randomBytes(6 * mib))}
	if _, err := e.UploadFile(t.Context(), key, "text/plain", file, nil); !errors.Is(err, transfer.ErrChanged) || lost.Hits() != 1 {
		t.Errorf("error %v after %d lost answers", err, lost.Hits())
	}
	if f.begun() != 0 || f.object(key) != nil {
		t.Error("something is left")
	}
}

// A stream goes with trailers too: its parts are in memory.
func TestTrailedStream(t *testing.T) {
	f := &fakeS3{knows: []string{"CRC64NVME"}}
	e := f.startTLS(t)
	data := randomBytes(20 * mib)
	stream, err := e.OpenStream(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	object, err := e.UploadStream(t.Context(), key, "text/plain", stream, nil)
	if err != nil || object.Verified != "CRC64NVME" || !bytes.Equal(f.object(key).data, data) {
		t.Errorf("%+v, %v", object, err)
	}
}
