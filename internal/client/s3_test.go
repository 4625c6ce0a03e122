package client_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"github.com/designfultech/filestore/internal/client"
)

// A server that prefers HTTP/2, as most do over TLS, is spoken to in HTTP/1.1.
func TestHTTPClientSpeaksHTTP1OverTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Proto", r.Proto)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()

	httpClient := client.HTTPClient(client.DefaultStallTimeout, nil).WithTransportOptions(func(tr *http.Transport) {
		tr.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if proto := resp.Header.Get("Proto"); proto != "HTTP/1.1" {
		t.Errorf("the server saw %s, want HTTP/1.1", proto)
	}
}

// What a service throttles is told before it is tried again, and nothing else is.
func TestTellThrottled(t *testing.T) {
	var told int
	r := client.TellThrottled(client.NewRetryer(), func() { told++ })
	for _, code := range []string{"ProvisionedThroughputExceededException", "ThrottlingException", "SlowDown"} {
		told = 0
		if _, err := r.RetryDelay(1, &smithy.GenericAPIError{Code: code}); err != nil || told != 1 {
			t.Errorf("%s was told %d times, error %v", code, told, err)
		}
	}
	told = 0
	if _, err := r.RetryDelay(1, &smithy.GenericAPIError{Code: "InternalServerError"}); err != nil || told != 0 {
		t.Errorf("an internal error was told %d times, error %v", told, err)
	}
	if _, ok := r.(aws.RetryerV2); !ok {
		t.Error("the SDK finds no adaptive mode in it")
	}
}
