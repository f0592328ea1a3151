package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/model"
)

func TestWhereTheServerSpeaksFirstIsKnownByTheSameWordsAndNumbers(t *testing.T) {
	for _, c := range []struct {
		app, name    string
		port, target int32
		want         bool
	}{
		{app: "mysql", port: 1234, want: true},
		{name: "smtp-in", port: 1234, want: true},
		{name: "db", port: 3306, want: true},
		{name: "db", port: 1234, target: 3306, want: true},
		{name: "tcp-db", port: 3306, want: true},
		{name: "tls-mail", port: 25},
		{app: "postgres", name: "mysql", port: 3306},
		{name: "db", port: 5432},
		{name: "tcp", port: 2525},
	} {
		p := corev1.ServicePort{Name: c.name, AppProtocol: &c.app, Port: c.port}
		p.TargetPort.IntVal = c.target
		if got := SpeaksFirst(p); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestProtocolComesFromAppProtocolThenNameThenNumber(t *testing.T) {
	for _, c := range []struct {
		why      string
		app      string // appProtocol
		name     string
		port     int32
		target   int32
		want     model.Protocol
		declared bool
	}{
		{why: "appProtocol wins over the name", app: "tcp", name: "http", port: 80, want: model.TCP, declared: true},
		{why: "appProtocol in capitals", app: "HTTP", port: 80, want: model.HTTP, declared: true},
		{why: "appProtocol of Kubernetes' own", app: "kubernetes.io/h2c", port: 80, want: model.HTTP2, declared: true},
		{why: "WebSocket is HTTP", app: "kubernetes.io/ws", port: 80, want: model.HTTP, declared: true},
		{why: "WebSocket over the application's TLS is opaque", app: "kubernetes.io/wss", port: 443, want: model.TCP, declared: true},
		{why: "the application's own TLS is opaque", app: "https", port: 443, want: model.TCP, declared: true},
		{why: "grpc", app: "grpc", port: 80, want: model.GRPC, declared: true},
		{why: "an appProtocol that is not HTTP is TCP, whatever it is", app: "example.com/telnet", name: "http", port: 80, want: model.TCP, declared: true},
		{why: "an empty appProtocol says nothing", app: "", name: "http2", port: 80, want: model.HTTP2, declared: true},

		{why: "the whole name", name: "http", port: 1234, want: model.HTTP, declared: true},
		{why: "the name's first word", name: "grpc-api", port: 1234, want: model.GRPC, declared: true},
		{why: "a word that only begins like one", name: "httpish", port: 1234, want: model.Detect},
		{why: "gRPC-Web may come as HTTP/1.1", name: "grpc-web", port: 1234, want: model.HTTP, declared: true},
		{why: "gRPC-Web with a suffix", name: "grpc-web-api", port: 1234, want: model.HTTP, declared: true},
		{why: "https in the name", name: "https-admin", port: 1234, want: model.TCP, declared: true},
		{why: "a database's name", name: "postgres-rw", port: 1234, want: model.TCP, declared: true},
		{why: "a name wins over a number", name: "http", port: 3306, want: model.HTTP, declared: true},

		{why: "the server speaks first on this number", name: "db", port: 3306, want: model.TCP},
		{why: "the pod's number counts too", name: "db", port: 13306, target: 3306, want: model.TCP},
		{why: "mail", port: 25, want: model.TCP},
		{why: "nothing is known", name: "web", port: 8080, want: model.Detect},
		{why: "no name at all", port: 8080, want: model.Detect},
	} {
		t.Run(c.why, func(t *testing.T) {
			p := corev1.ServicePort{Name: c.name, AppProtocol: &c.app, Port: c.port}
			p.TargetPort.IntVal = c.target
			if got, declared := ProtocolOf(p); got != c.want || declared != c.declared {
				t.Errorf("got %v, declared %v; want %v, declared %v", got, declared, c.want, c.declared)
			}
		})
	}
}
