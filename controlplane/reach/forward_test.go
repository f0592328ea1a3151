package reach

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// older is an API server that port-forwards over SPDY only, as those before 1.30 do, to a pod that echoes at port 7 and
// listens at no other.
func older(t *testing.T) Forwarder {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.EqualFold(r.Header.Get("Upgrade"), "SPDY/3.1") {
			http.Error(w, "what is a websocket?", http.StatusBadRequest)
			return
		}
		if want := "/api/v1/namespaces/shop/pods/web/portforward"; r.URL.Path != want {
			t.Errorf("the path is %s; want %s", r.URL.Path, want)
		}
		if _, err := httpstream.Handshake(r, w, []string{portforward.PortForwardProtocolV1Name}); err != nil {
			t.Error(err)
			return
		}
		streams := make(chan httpstream.Stream, 2)
		conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
			streams <- s
			return nil
		})
		if conn == nil {
			return
		}
		defer conn.Close()
		serve(<-streams, <-streams)
		<-conn.CloseChan()
	}))
	t.Cleanup(s.Close)
	config := &rest.Config{Host: s.URL}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return Forwarder{config, client}
}

// serve is the kubelet's part: the error stream comes first.
func serve(refusals, data httpstream.Stream) {
	if data.Headers().Get(corev1.PortHeader) != "7" {
		_, _ = io.WriteString(refusals, "connect: connection refused")
		_, _ = refusals.Close(), data.Close()
		return
	}
	go func() {
		_, _ = io.Copy(data, data)
		_, _ = refusals.Close(), data.Close()
	}()
}

func TestAPortForwardFallsBackToSPDY(t *testing.T) {
	conn, err := older(t).Dial(t.Context(), "shop", "web", 7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "there and back"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("there and back"))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "there and back" {
		t.Errorf("came back %q, %v", got, err)
	}
	if conn.RemoteAddr().String() != "shop/web:7" {
		t.Errorf("the address is %s", conn.RemoteAddr())
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Errorf("closing it again: %v", err)
	}
}

func TestAPortThatNobodyListensAtIsSaidByTheKubelet(t *testing.T) {
	conn, err := older(t).Dial(t.Context(), "shop", "web", 8)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1))
	if want := "port 8 of pod shop/web: connect: connection refused"; err == nil || err.Error() != want {
		t.Errorf("reading ends with %v; want %q", err, want)
	}
}

func TestAnAPIServerThatHangsIsGivenUpWithItsReason(t *testing.T) {
	hung := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hung }))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(hung) })
	config := &rest.Config{Host: s.URL}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("that is enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, enough)
	defer cancel()
	if _, err := (Forwarder{config, client}).Dial(ctx, "shop", "web", 7); !errors.Is(err, enough) {
		t.Errorf("dialling ends with %v", err)
	}
}
