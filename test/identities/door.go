package identities

import (
	"net"
	"net/netip"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/test/loopback"
)

// Door is where a control plane answers sidecars by mutual TLS. Its address is free for as long as the test runs, so
// that a server which was stopped can come back there.
type Door struct {
	Server bootstrap.Server // as a sidecar dials it
	creds  credentials.TransportCredentials
}

// Door makes one. Nobody listens there yet.
func (a *Authority) Door(t testing.TB) Door {
	t.Helper()
	address := netip.AddrPortFrom(loopback.Reserve(t).Addr().Next(), 15010)
	id := a.ID("heddle-system", "heddle")
	return Door{bootstrap.Server{Address: address.String(), ID: id}, credentials.NewTLS(a.Server(t, id))}
}

// Credentials are for the gRPC server that answers there.
func (d Door) Credentials() grpc.ServerOption { return grpc.Creds(d.creds) }

// Listen opens it.
func (d Door) Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", d.Server.Address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
