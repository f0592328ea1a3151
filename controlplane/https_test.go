package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/test/identities"
)

func TestWhoAsksByHTTPSMaySendSoMuchAndNoMore(t *testing.T) {
	ca := identities.New(t, "cluster.local")
	own := ca.Certificate(t, ca.ID("heddle-system", "heddle"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		_, _ = w.Write(body)
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serveHTTPS(ctx, l, echo, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}}, zerolog.Nop())
	}()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: ca.Client(t, "")}}
	for size, want := range map[int]int{0: http.StatusOK, maxWebBody: http.StatusOK, maxWebBody + 1: http.StatusRequestEntityTooLarge} {
		r, err := client.Post("https://"+l.Addr().String(), "text/plain", bytes.NewReader(make([]byte, size)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r.Body)
		if r.Body.Close(); err != nil || r.StatusCode != want || want == http.StatusOK && len(got) != size {
			t.Errorf("%d bytes: %s, %d bytes, %v", size, r.Status, len(got), err)
		}
	}
	r, err := client.Do(withHeader(t, "https://"+l.Addr().String(), strings.Repeat("x", 100<<10)))
	if err == nil {
		if r.Body.Close(); r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("100 KiB of headers: %s", r.Status)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func withHeader(t *testing.T, url, value string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("x-long", value)
	return r
}
