package wire_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/heddle-mesh/heddle/test/wire"
)

func TestEveryProtocolPasses(t *testing.T) {
	mesh := wire.Start(t, "protocols")
	web := mesh.Caller("web")

	mesh.Run("HTTP/1.1 arrives as HTTP/1.1", func(t *testing.T) { wantProto(t, web.Get("http://catalog:8080/"), "HTTP/1.1") })
	mesh.Run("HTTP/2 arrives as HTTP/2", func(t *testing.T) { wantProto(t, web.HTTP2().Get("http://catalog:8080/"), "HTTP/2.0") })
	mesh.Run("HTTP/1.1 arrives as HTTP/2 where the port says so", func(t *testing.T) {
		wantProto(t, web.Get("http://search:8081/"), "HTTP/2.0")
	})
	mesh.Run("HTTP/1.0", func(t *testing.T) {
		c := web.Dial("catalog:8080")
		if _, err := io.WriteString(c, "GET /old HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("status %d, body ends with %v", resp.StatusCode, err)
		}
	})
	mesh.Run("WebSocket", func(t *testing.T) {
		mesh.AppAt("store-1", 8080).Does(wire.WebSocket)
		c := dialWebSocket(t, web, "catalog:8080")
		wantMessage(t, c, "hello")
		wantMessage(t, c, "again")
	})
	mesh.Run("an application's own TLS is untouched", func(t *testing.T) {
		certificate, roots := wire.SelfSigned(t, "vault.example.com")
		mesh.AppAt("store-1", 8443).Speaks(func(c net.Conn) {
			wire.EchoBytes(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}}))
		})
		c := tls.Client(web.Dial("vault:8443"), &tls.Config{ServerName: "vault.example.com", RootCAs: roots})
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "secret\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := bufio.NewReader(c).ReadString('\n'); err != nil || got != "secret\n" {
			t.Errorf("heard %q (%v)", got, err)
		}
	})
	mesh.Run("TCP, closed one way first", func(t *testing.T) {
		mesh.AppAt("store-1", 7000).Speaks(wire.EchoBytes)
		c := web.Dial("cache:7000")
		c.WantEcho("first")
		if _, err := io.WriteString(c, "last"); err != nil {
			t.Fatal(err)
		}
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(c); err != nil || string(rest) != "last" {
			t.Errorf("after the end of what was sent came %q (%v), want \"last\"", rest, err)
		}
	})
}

func dialWebSocket(t *testing.T, from *wire.Caller, service string) *websocket.Conn {
	t.Helper()
	config, err := websocket.NewConfig("ws://"+service+"/chat", "http://"+service)
	if err != nil {
		t.Fatal(err)
	}
	c, err := websocket.NewClient(config, from.Dial(service))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantMessage sends a message and wants it back.
func wantMessage(t *testing.T, c *websocket.Conn, said string) {
	t.Helper()
	if err := websocket.Message.Send(c, said); err != nil {
		t.Fatal(err)
	}
	var heard string
	if err := websocket.Message.Receive(c, &heard); err != nil || heard != said {
		t.Fatalf("heard %q (%v), want %q", heard, err, said)
	}
}

func wantProto(t *testing.T, got *wire.Response, want string) {
	t.Helper()
	if proto := got.WantStatus(http.StatusOK).Facts().Proto; proto != want {
		t.Errorf("arrived as %s, want %s", proto, want)
	}
}

func TestCallersOutsideTheMeshAreServed(t *testing.T) {
	mesh := wire.Start(t, "protocols")
	outsider := mesh.Outsider()

	wantProto(t, outsider.Get("http://store-1:8080/"), "HTTP/1.1")
	wantProto(t, outsider.HTTP2().Get("http://store-1:8080/"), "HTTP/2.0")
	wantProto(t, outsider.Get("http://store-1:8081/"), "HTTP/2.0")
	got := outsider.Get("http://store-1:8080/", wire.Header("x-envoy-max-retries", "3"), wire.Header("x-heddle-protocol", "HTTP/1.1"))
	for name := range got.WantStatus(http.StatusOK).Facts().Header {
		if strings.HasPrefix(name, "X-Envoy") || strings.HasPrefix(name, "X-Heddle") {
			t.Errorf("the application sees %s", name)
		}
	}
	mesh.AppAt("store-1", 8080).Does(wire.WebSocket)
	wantMessage(t, dialWebSocket(t, outsider, "store-1:8080"), "hello")
	mesh.AppAt("store-1", 7000).Speaks(wire.EchoBytes)
	outsider.Dial("store-1:7000").WantEcho("hello")
	mesh.AppAt("store-1", 3306).Speaks(wire.Banner("welcome"))
	if line, err := outsider.Dial("store-1:3306").Line(); err != nil || line != "welcome" {
		t.Errorf("greeted with %q (%v)", line, err)
	}
}

func TestServersThatSpeakFirstAreNotDelayed(t *testing.T) {
	mesh := wire.Start(t, "protocols")
	web := mesh.Caller("web")
	// greeting gives the time from the connection to the server's first line.
	greeting := func(t *testing.T, service string) time.Duration {
		t.Helper()
		start := time.Now()
		line, err := web.Dial(service).Line()
		if err != nil || line != "welcome" {
			t.Fatalf("%s: greeted with %q (%v)", service, line, err)
		}
		return time.Since(start)
	}
	for _, c := range []struct {
		name, service string
		port          int
	}{
		{"on a port whose number is known", "orders-db:3306", 3306},
		{"on a port that is declared", "mail:2525", 2525},
	} {
		mesh.Run(c.name, func(t *testing.T) {
			mesh.AppAt("store-1", c.port).Speaks(wire.Banner("welcome"))
			best := greeting(t, c.service)
			for range 9 {
				best = min(best, greeting(t, c.service))
			}
			if best > 20*time.Millisecond {
				t.Errorf("the greeting took %v at best", best)
			}
		})
	}
	mesh.Run("on an unknown port beyond the detection timeout", func(t *testing.T) {
		mesh.AppAt("store-1", 6000).Speaks(wire.Banner("welcome"))
		best := greeting(t, "legacy:6000")
		for range 4 {
			best = min(best, greeting(t, "legacy:6000"))
		}
		if best > 150*time.Millisecond {
			t.Errorf("the greeting took %v at best, want at most the 100 ms of detection", best)
		}
	})
	mesh.Run("and HTTP is still found on an unknown port", func(t *testing.T) {
		wantProto(t, web.Get("http://legacy:6000/"), "HTTP/1.1")
		wantProto(t, web.HTTP2().Get("http://legacy:6000/"), "HTTP/2.0")
	})
}
