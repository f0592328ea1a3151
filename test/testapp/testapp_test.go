package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serve runs a server until the test ends, and gives its address.
func serve(t *testing.T, args ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, args, w) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("testapp %q ended: %v", args, err)
		}
	})
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
}

// loaded runs the load client for a moment and gives what it says.
func loaded(t *testing.T, args ...string) report {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), append([]string{"load", "--rate=100", "--for=300ms"}, args...), &out); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEchoTakesTheCommandLineOfHTTPEcho(t *testing.T) {
	address := serve(t, "-listen=127.0.0.1:0", "--text=Hello from http-echo")
	resp, err := http.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "Hello from http-echo\n" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestEchoOverTLSIsAsHealthyAsItWasToldAndShowsItsCertificate(t *testing.T) {
	address := serve(t, "-listen=127.0.0.1:0", "--tls")
	var out bytes.Buffer
	if err := run(t.Context(), []string{"certificates", "--of=" + address, "--alpn=http/1.1"}, &out); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(out.Bytes()) {
		t.Fatalf("it shows %q", out.String())
	}
	// Nobody's name is in it, so that alone is left to verify.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots})
		return err
	}}}}
	for _, step := range []struct {
		path string
		want int
	}{{"ready", 200}, {"ready/503", 200}, {"ready", 503}, {"live", 200}, {"ready/200", 200}, {"ready", 200}, {"ready/99", 400}} {
		resp, err := client.Get("https://" + address + "/health/" + step.path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != step.want {
			t.Errorf("/health/%s is answered with %d, want %d", step.path, resp.StatusCode, step.want)
		}
	}
}

func TestLoadCountsAnswersOfEachProtocol(t *testing.T) {
	echo := serve(t, "-listen=127.0.0.1:0", "--text=hi")
	for name, args := range map[string][]string{
		"HTTP/1.1": {"--url=http://" + echo, "--want=hi"},
		"HTTP/2":   {"--url=http://" + echo, "--want=hi", "--protocol=http2"},
		"gRPC":     {"--url=grpc://" + serve(t, "grpc", "-listen=127.0.0.1:0")},
		"TCP":      {"--url=tcp://" + serve(t, "tcp", "-listen=127.0.0.1:0")},
	} {
		t.Run(name, func(t *testing.T) {
			if r := loaded(t, args...); r.Sent == 0 || r.Failed != 0 || r.OK != r.Sent {
				t.Errorf("got %+v, want some requests and no failure", r)
			}
		})
	}
}

func TestLoadCountsFailuresByReason(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	failing := serve(t, "-listen=127.0.0.1:0", "--status-code=503", "--text=no")
	for want, args := range map[string][]string{
		"status 503: no": {"--url=http://" + failing},
		"dial tcp 127.0.0.1:PORT: connect: connection refused": {"--url=http://" + closed.Addr().String()},
	} {
		r := loaded(t, args...)
		if r.OK != 0 || r.Failed == 0 || r.Failures[want] != r.Failed {
			t.Errorf("got %+v, want only failures for %q", r, want)
		}
	}
}

func TestAStreamThatBreaksIsOneFailure(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for first := true; ; first = false {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if first {
				conn.Close()
				continue
			}
			go answer(conn, "")
		}
	}()
	s := &stream{address: listener.Addr().String()}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.call(ctx); err == nil {
		t.Error("a line was given back on a closed stream")
	}
	for range 3 {
		if err := s.call(ctx); err != nil {
			t.Errorf("after the failure: %v", err)
		}
	}
}

func TestAServerWithAGreetingSpeaksFirst(t *testing.T) {
	conn, err := net.Dial("tcp", serve(t, "tcp", "--listen=127.0.0.1:0", "--greeting=welcome"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "welcome\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestAnUnknownCommandNamesThoseThatThereAre(t *testing.T) {
	err := run(t.Context(), []string{"lod"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "echo, tcp, grpc, udp, load, certificates, resolve, record") {
		t.Errorf("got %v", err)
	}
}

func TestAUDPServerSaysWhoSentAPacket(t *testing.T) {
	conn, err := net.Dial("udp", serve(t, "udp", "--listen=127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "hi"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := conn.Read(b); err != nil || string(b[:n]) != "127.0.0.1: hi" {
		t.Errorf("got %q, %v", b[:n], err)
	}
}
