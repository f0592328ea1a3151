package identities

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
)

// Agent gives one sidecar its certificate and the trust bundle.
type Agent struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer

	Socket  string
	secrets map[string]*anypb.Any
}

// Serve runs an agent for a sidecar of that ID until the test ends.
func (a *Authority) Serve(t testing.TB, id string) *Agent {
	t.Helper()
	agent := a.Late(t, id)
	agent.Start(t)
	return agent
}

// Late is an agent that is not there yet.
func (a *Authority) Late(t testing.TB, id string) *Agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "sds-") // a unix socket's path is at most 107 bytes, which t.TempDir may exceed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the agent's files: %v", err)
		}
	})
	agent := &Agent{Socket: filepath.Join(dir, "sds.sock"), secrets: map[string]*anypb.Any{}}
	for _, s := range a.secretsOf(t, id) {
		if agent.secrets[s.Name], err = anypb.New(s); err != nil {
			t.Fatal(err)
		}
	}
	return agent
}

// Start lets the agent answer until the test ends.
func (a *Agent) Start(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("unix", a.Socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	secretv3.RegisterSecretDiscoveryServiceServer(server, a)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("agent at %s: %v", a.Socket, err)
		}
	})
}

func (a *Authority) secretsOf(t testing.TB, id string) []*tlsv3.Secret {
	t.Helper()
	c := a.Certificate(t, id)
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return []*tlsv3.Secret{
		{Name: bootstrap.CertificateSecret, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})),
			PrivateKey:       inline(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		}}},
		{Name: bootstrap.BundleSecret, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: inline(a.pem()),
		}}},
	}
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// StreamSecrets answers each first request for a secret; what follows are confirmations.
func (a *Agent) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil // the sidecar is gone
		}
		if request.ResponseNonce != "" {
			continue
		}
		answer := &discoveryv3.DiscoveryResponse{VersionInfo: "1", Nonce: "1", TypeUrl: request.TypeUrl}
		for _, name := range request.ResourceNames {
			if secret := a.secrets[name]; secret != nil {
				answer.Resources = append(answer.Resources, secret)
			}
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}
