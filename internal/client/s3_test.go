package client_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

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
