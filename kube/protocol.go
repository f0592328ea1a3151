package kube

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/model"
)

// ProtocolOf says what travels on a Service's port, and whether the person declared it: by appProtocol, else by the
// port's name, else it follows from the number, else the first bytes will have to tell. A declared or known port is
// never waited for.
func ProtocolOf(p corev1.ServicePort) (proto model.Protocol, declared bool) {
	if p.AppProtocol != nil && *p.AppProtocol != "" {
		if proto, known := protocolNamed(strings.ToLower(*p.AppProtocol)); known {
			return proto, true
		}
		return model.TCP, true // it is something else than HTTP, whose names are all known
	}
	return protocolByNameOrNumber(p.Name, p.Port, p.TargetPort.IntVal)
}

// SpeaksFirst says that on a port of TCP it is known to be the server that begins, by the same words and numbers.
func SpeaksFirst(p corev1.ServicePort) bool {
	word, _, _ := strings.Cut(strings.ToLower(p.Name), "-")
	if p.AppProtocol != nil && *p.AppProtocol != "" {
		word = strings.ToLower(*p.AppProtocol)
	}
	switch word {
	case "ftp", "imap", "mariadb", "mysql", "nats", "pop3", "smtp", "ssh":
		return true
	}
	if _, known := protocolNamed(word); known && word != "tcp" {
		return false // such as TLS at the number of something else
	}
	return greets(p.Port) || greets(p.TargetPort.IntVal)
}

// protocolByNameOrNumber looks at a port's name and the numbers it is known by.
func protocolByNameOrNumber(name string, numbers ...int32) (proto model.Protocol, declared bool) {
	name = strings.ToLower(name)
	// gRPC-Web may come as HTTP/1.1, so it must not be taken for a port of gRPC that is called "web".
	if name == "grpc-web" || strings.HasPrefix(name, "grpc-web-") {
		return model.HTTP, true
	}
	prefix, _, _ := strings.Cut(name, "-")
	if proto, known := protocolNamed(prefix); known {
		return proto, true
	}
	for _, n := range numbers {
		if opaque(n) {
			return model.TCP, false
		}
	}
	return model.Detect, false
}

// protocolNamed knows the words for protocols: those of the Kubernetes documentation (concepts/services-networking/
// service, "Application protocol"), and what people write in port names.
func protocolNamed(name string) (proto model.Protocol, known bool) {
	switch name {
	case "http", "http1", "http/1.1", "ws", "kubernetes.io/ws", "websocket":
		return model.HTTP, true
	case "http2", "http/2", "h2c", "kubernetes.io/h2c":
		return model.HTTP2, true
	case "grpc":
		return model.GRPC, true
	case "https", "h2", "tls", "ssl", "wss", "kubernetes.io/wss", "grpcs": // the application's own TLS, passed through
		return model.TCP, true
	case "tcp", "amqp", "cassandra", "dns", "ftp", "imap", "kafka", "ldap", "mariadb", "memcached", "mongo", "mongodb",
		"mqtt", "mssql", "mysql", "nats", "oracle", "pop3", "postgres", "postgresql", "redis", "smtp", "ssh", "zookeeper":
		return model.TCP, true
	}
	return model.Detect, false
}

// opaque knows the ports that are TCP without looking: where the server speaks first, a client's first bytes would
// be waited for in vain, and where the client is silent for long or asks for TLS in its own way, looking helps nobody.
func opaque(port int32) bool {
	switch port {
	case 1433, // SQL Server: TLS inside its own pre-login packets
		5432,  // PostgreSQL: asks for TLS with a packet of its own
		6379,  // Redis: connections are opened ahead and stay silent
		9300,  // Elasticsearch between nodes: likewise
		11211, // memcached: likewise
		27017: // MongoDB: likewise
		return true
	}
	return greets(port)
}

// greets knows the ports where the server speaks first.
func greets(port int32) bool {
	switch port {
	case 21, // FTP: greeting 220 (RFC 959, 5.4)
		22,      // SSH: version exchange (RFC 4253, 4.2)
		23,      // Telnet: option negotiation (RFC 854)
		25, 587, // SMTP and submission: greeting 220 (RFC 5321, 3.1)
		110,  // POP3: greeting +OK (RFC 1939, 4)
		119,  // NNTP: greeting 200 (RFC 3977, 5.1)
		143,  // IMAP: greeting OK (RFC 9051, 7.1)
		3306, // MySQL, MariaDB: Initial Handshake Packet from the server
		4190, // ManageSieve: capabilities from the server (RFC 5804, 1.7)
		4222, // NATS: INFO from the server
		5900: // RFB (VNC): ProtocolVersion from the server (RFC 6143, 7.1.1)
		return true
	}
	return false
}
