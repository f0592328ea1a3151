package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// Dialer opens a connection to a port of a pod.
type Dialer interface {
	Dial(ctx context.Context, namespace, pod string, port int) (net.Conn, error)
}

// Forwarder dials by the API server's port-forward: over a websocket, or SPDY where an older API server or a proxy wants
// that.
type Forwarder struct {
	Config *rest.Config
	Client kubernetes.Interface
}

// Dial opens a connection of its own for each call. That the pod refuses it shows at the first read.
func (f Forwarder) Dial(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
	url := f.Client.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(f.Config)
	if err != nil {
		return nil, fmt.Errorf("port-forward to pod %s/%s: %w", namespace, pod, err)
	}
	dialer := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	websocket, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, f.Config)
	if err != nil {
		return nil, fmt.Errorf("port-forward to pod %s/%s: %w", namespace, pod, err)
	}
	dialer = portforward.NewFallbackDialerForStreaming(websocket, dialer, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	type dialled struct {
		conn httpstream.Connection
		err  error
	}
	done := make(chan dialled, 1)
	go func() { // Dial takes no context
		conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
		done <- dialled{conn, err}
	}()
	select {
	case <-ctx.Done():
		go func() {
			if d := <-done; d.conn != nil {
				_ = d.conn.Close()
			}
		}()
		return nil, fmt.Errorf("port-forward to pod %s/%s: %w", namespace, pod, context.Cause(ctx))
	case d := <-done:
		if d.err != nil {
			return nil, fmt.Errorf("port-forward to pod %s/%s: %w", namespace, pod, d.err)
		}
		return open(d.conn, namespace+"/"+pod, port)
	}
}

// open asks for one port, and makes a net.Conn of the streams that carry it.
func open(conn httpstream.Connection, pod string, port int) (net.Conn, error) {
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	refusals, err := conn.CreateStream(headers)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("port-forward to pod %s: %w", pod, err), conn.Close())
	}
	_ = refusals.Close() // our half: we have nothing to say there
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(headers)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("port-forward to pod %s: %w", pod, err), conn.Close())
	}
	f := &forwarded{data: data, conn: conn, pod: pod, port: port, refused: make(chan string, 1)}
	go func() {
		text, _ := io.ReadAll(io.LimitReader(refusals, 4096))
		f.refused <- strings.TrimSpace(string(text))
	}()
	return f, nil
}

// forwarded is a connection to a port of a pod. It has no deadlines: who uses it closes it.
type forwarded struct {
	data    httpstream.Stream
	conn    httpstream.Connection
	pod     string
	port    int
	refused chan string // one message, empty if the connection ended in order
	once    sync.Once
}

// Read gives the kubelet's reason in place of an end before the first byte.
func (f *forwarded) Read(b []byte) (int, error) {
	n, err := f.data.Read(b)
	if err == nil || n > 0 {
		return n, err
	}
	late := time.NewTimer(time.Second)
	defer late.Stop()
	select {
	case text := <-f.refused:
		f.refused <- ""
		if text != "" {
			return 0, fmt.Errorf("port %d of pod %s: %s", f.port, f.pod, text)
		}
	case <-late.C:
	}
	return n, err
}

func (f *forwarded) Write(b []byte) (int, error) { return f.data.Write(b) }

func (f *forwarded) Close() error {
	var err error
	f.once.Do(func() { err = errors.Join(f.data.Reset(), f.conn.Close()) })
	return err
}

func (f *forwarded) LocalAddr() net.Addr              { return forwardAddr("heddle") }
func (f *forwarded) RemoteAddr() net.Addr             { return forwardAddr(f.pod + ":" + strconv.Itoa(f.port)) }
func (f *forwarded) SetDeadline(time.Time) error      { return nil }
func (f *forwarded) SetReadDeadline(time.Time) error  { return nil }
func (f *forwarded) SetWriteDeadline(time.Time) error { return nil }

type forwardAddr string

func (forwardAddr) Network() string  { return "port-forward" }
func (a forwardAddr) String() string { return string(a) }
