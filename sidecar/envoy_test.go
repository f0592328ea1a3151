package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/test/loopback"
)

// realEnvoy is an Envoy that speaks mutual TLS with itself: what comes to plain goes on to mtls, by HTTP/2, and is
// answered there. Both ends have their certificate and bundle from the agent.
type realEnvoy struct {
	t     testing.TB
	dir   string
	plain string // address
	mtls  string // address
	any   string // address: mutual TLS with everybody whom the bundle's authorities vouch for

	mu   sync.Mutex
	said bytes.Buffer
}

// patience is how long a test waits for what a process tells nobody.
const patience = 20 * time.Second

func newEnvoy(t testing.TB, dir string) *realEnvoy {
	b := loopback.Reserve(t).Addr().As4()
	host := fmt.Sprintf("%d.%d.0.1", b[0], b[1])
	return &realEnvoy{t: t, dir: dir, plain: host + ":8080", mtls: host + ":8443", any: host + ":8444"}
}

// Write collects what Envoy prints.
func (e *realEnvoy) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.said.Write(p)
}

func (e *realEnvoy) log() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.said.String()
}

// Run is [Proxy]'s.
func (e *realEnvoy) Run(ctx context.Context) error {
	binary, err := envoy.Find(ctx, envoy.FindOptions{Progress: os.Stderr})
	if err != nil {
		return err
	}
	config := filepath.Join(e.dir, "envoy.yaml")
	if err := os.WriteFile(config, []byte(e.config()), 0o600); err != nil {
		return err
	}
	// Trace is the most that Envoy can say: no level may tell a key.
	cmd := exec.CommandContext(ctx, binary, "-c", config, "--concurrency", "2", "--log-level", "info",
		"--component-log-level", "secret:trace,config:trace,connection:debug,grpc:trace", "--disable-hot-restart")
	cmd.Stdout, cmd.Stderr = e, e
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("Envoy ended: %w", err)
}

// Ready is [Proxy]'s.
func (e *realEnvoy) Ready(ctx context.Context) error {
	for {
		_, err := e.admin(ctx, "/ready")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for Envoy: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (e *realEnvoy) admin(ctx context.Context, path string) (string, error) {
	c := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(e.dir, "admin.sock"))
		},
		DisableKeepAlives: true,
	}}
	q, err := http.NewRequestWithContext(ctx, "GET", "http://admin"+path, nil)
	if err != nil {
		return "", err
	}
	r, err := c.Do(q)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if r.StatusCode != http.StatusOK {
		err = errors.Join(err, errors.New(r.Status))
	}
	return string(body), err
}

// stat gives a counter or gauge, 0 if there is none yet.
func (e *realEnvoy) stat(name string) int {
	e.t.Helper()
	text := must(e.admin(e.t.Context(), "/stats?filter=^"+regexp.QuoteMeta(name)+"$"))
	var n int
	if text != "" {
		must(fmt.Sscanf(text, name+": %d", &n))
	}
	return n
}

func (e *realEnvoy) config() string {
	plainHost, plainPort, _ := strings.Cut(e.plain, ":")
	mtlsHost, mtlsPort, _ := strings.Cut(e.mtls, ":")
	return strings.NewReplacer("DIR", e.dir, "PLAIN_HOST", plainHost, "PLAIN_PORT", plainPort, "MTLS_HOST", mtlsHost,
		"MTLS_PORT", mtlsPort,
		"ANY_PORT", "8444", "EXACT", idOf("web").String(), "SDS", askAgent).
		Replace(strings.ReplaceAll(bootstrapText, "COMMON", strings.ReplaceAll(common, "\n", " ")))
}

// askAgent is how Envoy asks: SotW, and without a limit on how long it waits.
const askAgent = `{resource_api_version: V3, initial_fetch_timeout: 0s, api_config_source: {api_type: GRPC, ` +
	`transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: sds}}]}}`

// common is the part of TLS that both ends share, in YAML's flow style.
const common = `{
  tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3},
  alpn_protocols: [h2],
  tls_certificate_sds_secret_configs: [{name: default, sds_config: SDS}],
  combined_validation_context: {
    default_validation_context: {match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: "EXACT"}}]},
    validation_context_sds_secret_config: {name: bundle, sds_config: SDS}}}`

const bootstrapText = `
node: {id: shop/web-1, cluster: shop}
admin: {address: {pipe: {path: DIR/admin.sock, mode: 384}}}
static_resources:
  clusters:
  - name: sds
    connect_timeout: 1s
    load_assignment: {cluster_name: sds, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: DIR/sds.sock}}}}]}]}
    typed_extension_protocol_options: &http2
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
  - name: next
    connect_timeout: 1s
    load_assignment: {cluster_name: next, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: MTLS_HOST, port_value: MTLS_PORT}}}}]}]}
    typed_extension_protocol_options: *http2
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        max_session_keys: 0
        common_tls_context: COMMON
  listeners:
  - name: mtls
    address: {socket_address: {address: MTLS_HOST, port_value: MTLS_PORT}}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context: COMMON
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: mtls
          codec_type: HTTP2
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: hello}}}]}]}
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
  - name: any
    address: {socket_address: {address: MTLS_HOST, port_value: ANY_PORT}}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            tls_certificate_sds_secret_configs: [{name: default, sds_config: SDS}]
            validation_context_sds_secret_config: {name: bundle, sds_config: SDS}
      filters:
      - name: echo
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}
  - name: plain
    address: {socket_address: {address: PLAIN_HOST, port_value: PLAIN_PORT}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: plain
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: next}}]}]}
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
`
