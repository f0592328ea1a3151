package hop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
)

// bootstrapYAML is an Envoy that takes HTTP at one address and sends it on to another: %[1]s and %[2]d to %[3]s and %[4]d.
// %[5]s is TLS of the listener and %[6]s of the cluster; one of them is empty.
const bootstrapYAML = `
static_resources:
  listeners:
  - address: {socket_address: {address: %[1]s, port_value: %[2]d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: hop
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: next, timeout: 0s}}]}
          http_filters:
          - {name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
%[5]s
  clusters:
  - name: next
    load_assignment:
      cluster_name: next
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %[3]s, port_value: %[4]d}}}}]}]
%[6]s
`

const listenerTLS = `
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context: %s`

const clusterTLS = `
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context: %s`

// bare runs two Envoys by hand before the application at app, and gives where the first listens.
func bare(b *testing.B, binary string, network netip.Prefix, app netip.Addr) way {
	b.Helper()
	ca, err := identity.NewRoot(spiffeid.RequireTrustDomainFromString("cluster.local"), time.Now(), 0)
	if err != nil {
		b.Fatal(err)
	}
	client, server := at(network, 2, 1), at(network, 2, 2)
	return way{name: "two bare Envoys", address: netip.AddrPortFrom(client, port).String(), envoys: []int{
		start(b, binary, fmt.Sprintf(bootstrapYAML, server, port, app, port, fmt.Sprintf(listenerTLS, mutual(b, ca, "catalog", "web")), "")),
		start(b, binary, fmt.Sprintf(bootstrapYAML, client, port, server, port, "", fmt.Sprintf(clusterTLS, mutual(b, ca, "web", "catalog")))),
	}}
}

// mutual is TLS 1.3 between two accounts, with the certificate of the first, and both in the configuration.
func mutual(b *testing.B, ca *identity.Authority, own, peer string) string {
	b.Helper()
	id, err := identity.ID(ca.TrustDomain(), "shop", own)
	if err != nil {
		b.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	chain, err := ca.Issue(b.Context(), identity.Request{ID: id, Key: key.Public(), Pod: own, PodUID: own})
	if err != nil {
		b.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	return fmt.Sprintf(`{alpn_protocols: [h2], tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}, `+
		`tls_certificates: [{certificate_chain: {inline_string: %q}, private_key: {inline_string: %q}}], `+
		`validation_context: {trusted_ca: {inline_string: %q}, match_typed_subject_alt_names: `+
		`[{san_type: URI, matcher: {exact: "spiffe://cluster.local/ns/shop/sa/%s"}}]}}`,
		identity.CertificatesPEM(chain), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		identity.CertificatesPEM([]*x509.Certificate{ca.Certificate()}), peer)
}

// start runs an Envoy with one worker, as the sidecars have, until the benchmark ends, and gives its process ID.
func start(b *testing.B, binary, config string) int {
	b.Helper()
	path := filepath.Join(short(b), "bootstrap.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, "--config-path", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no Envoy outlives us, however we end
	said, err := os.Create(filepath.Join(short(b), "log"))
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
		if text, err := os.ReadFile(said.Name()); b.Failed() {
			b.Logf("a bare Envoy said %s (%v)", text, err)
		}
	})
	return cmd.Process.Pid
}
