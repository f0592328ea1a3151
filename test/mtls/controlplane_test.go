package mtls

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/identities"
	"github.com/heddle-mesh/heddle/test/loopback"
	"github.com/heddle-mesh/heddle/test/secrets"
	"github.com/heddle-mesh/heddle/xds"
)

// controlPlane answers ADS over mutual TLS, and says who asked.
func controlPlane(t *testing.T, at string, config *tls.Config) <-chan tls.ConnectionState {
	t.Helper()
	listener, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	store, asked := xds.NewStore(), make(chan tls.ConnectionState, 100)
	store.MarkSynced()
	server := grpc.NewServer(xds.ServerOptions(grpc.Creds(credentials.NewTLS(config)))...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, xds.NewServer(xds.Options{
		Store: store,
		Connect: func(ctx context.Context, _ *corev3.Node) (xds.Session, error) {
			p, _ := peer.FromContext(ctx)
			asked <- p.AuthInfo.(credentials.TLSInfo).State
			return xds.Session{Layers: []xds.Layer{"mesh"}}, nil
		},
	}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return asked
}

// sidecarOf runs a sidecar that asks the control plane at an address.
func sidecarOf(t *testing.T, address, id, sds string) *envoy.Proxy {
	t.Helper()
	binary, err := envoy.Find(t.Context(), envoy.FindOptions{})
	if err != nil {
		t.Fatal(err)
	}
	proxy := envoy.New(envoy.Options{
		Binary:      binary,
		Bootstrap:   bootstrap.Options{ID: "shop/web", SDS: sds, Server: bootstrap.Server{Address: address, ID: id}},
		Concurrency: 1, StopTimeout: time.Second, Log: secrets.New(t).Log("Envoy"),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- proxy.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return proxy
}

func TestASidecarAsksTheControlPlaneByMutualTLSOnceItsAgentIsThere(t *testing.T) {
	for name, host := range map[string]string{"at an address": "", "by name": "localhost"} {
		t.Run(name, func(t *testing.T) {
			ca := identities.New(t, domain)
			id := ca.ID("heddle-system", "heddle")
			network := loopback.Reserve(t).Addr().Next().String()
			if host == "" {
				host = network
			} else {
				network = "127.0.0.1"
			}
			config := ca.Server(t, id)
			config.MinVersion = tls.VersionTLS12 // the sidecar insists on more
			port := freePort(t, network)
			asked := controlPlane(t, net.JoinHostPort(network, port), config)
			agent := ca.Late(t, ca.ID("shop", "web"))
			proxy := sidecarOf(t, net.JoinHostPort(host, port), id, agent.Socket)
			if _, err := proxy.Get(t.Context(), "/server_info"); err != nil {
				eventually(t, "Envoy runs without its secrets", func() bool {
					_, err := proxy.Get(t.Context(), "/server_info")
					return err == nil
				})
			}
			if len(asked) > 0 {
				t.Error("the control plane was asked without an identity")
			}
			agent.Start(t)
			ready, done := context.WithTimeout(t.Context(), patience)
			defer done()
			if err := proxy.Ready(ready); err != nil {
				t.Fatal(err)
			}
			state := <-asked
			wantPeer(t, state, ca.ID("shop", "web"))
			if state.NegotiatedProtocol != "h2" {
				t.Errorf("protocol %q", state.NegotiatedProtocol)
			}
		})
	}
}

func TestASidecarAsksNobodyElse(t *testing.T) {
	ca := identities.New(t, domain)
	at := net.JoinHostPort(loopback.Reserve(t).Addr().Next().String(), "15012")
	asked := controlPlane(t, at, ca.Server(t, ca.ID("heddle-system", "heddle-signer")))
	proxy := sidecarOf(t, at, ca.ID("heddle-system", "heddle"), ca.Serve(t, ca.ID("shop", "web")).Socket)
	eventually(t, "the refusal is counted", func() bool {
		text, err := proxy.Get(t.Context(), "/stats?filter=cluster.xds.ssl.fail_verify_san")
		return err == nil && len(text) > 0 && string(text) != "cluster.xds.ssl.fail_verify_san: 0\n"
	})
	if len(asked) > 0 {
		t.Error("it asked somebody with another ID")
	}
}

func freePort(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
