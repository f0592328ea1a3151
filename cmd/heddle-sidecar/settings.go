package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/injector/redirect"
	"github.com/heddle-mesh/heddle/sidecar"
	"github.com/heddle-mesh/heddle/sidecar/envoy"
	"github.com/heddle-mesh/heddle/sidecar/probe"
)

// settings are the flags.
type settings struct {
	trustDomain, namespace, account, pod string
	labelsFile                           string
	signer, signerID, plane, planeID     string
	bundle, tokenFile, joinTokenFile     string
	dir, workloadAPI, relay, mode, ready string
	region, zone                         string
	envoy, envoyLog                      string
	noEnvoy, healthChecks, redirected    bool
	concurrency                          int
	drain, grace, flush                  time.Duration
	captureBind, captureApp              string
	logLevel                             string

	joinSocket string
	labels     map[string]string // with joinSocket
	token      sidecar.Token     // with joinSocket: of the first answer
}

func defaults() *settings {
	return &settings{
		trustDomain: "cluster.local", dir: "/run/heddle/private", mode: "0600", envoyLog: "warning", concurrency: 2,
		drain: 10 * time.Minute, grace: 20 * time.Second, logLevel: "info",
	}
}

func (s *settings) flags(stderr io.Writer) *pflag.FlagSet {
	f := pflag.NewFlagSet("heddle-sidecar", pflag.ContinueOnError)
	f.SetOutput(stderr)
	f.SortFlags = false
	f.Usage = func() {}
	text := func(p *string, name, usage string) { f.StringVar(p, name, *p, usage) }
	text(&s.joinSocket, "join", "unix socket of a control plane on this machine (heddle serve --manifests), which says all that is about the pod; then --pod is NAMESPACE/NAME")
	text(&s.trustDomain, "trust-domain", "trust domain of the mesh")
	text(&s.namespace, "namespace", "namespace of the pod")
	text(&s.account, "service-account", "service account of the pod")
	text(&s.pod, "pod", "name of the pod")
	text(&s.labelsFile, "labels-file", "file with the pod's labels, as a downward API volume has it")
	text(&s.region, "region", "region of the node")
	text(&s.zone, "zone", "zone of the node")
	text(&s.signer, "signer", "host:port of the signer")
	text(&s.signerID, "signer-id", "SPIFFE ID of the signer (default spiffe://TRUST-DOMAIN/ns/heddle-system/sa/heddle-signer)")
	text(&s.plane, "control-plane", "host:port of the control plane")
	text(&s.planeID, "control-plane-id", "SPIFFE ID of the control plane (default spiffe://TRUST-DOMAIN/ns/heddle-system/sa/heddle)")
	text(&s.bundle, "bundle", "file with the trust bundle to start with; later ones in it serve to reach the signer only")
	text(&s.tokenFile, "token-file", "file with the token to show to the signer; read at each attempt")
	text(&s.joinTokenFile, "join-token-file", "file, for example /dev/stdin, with a join token; read again when a certificate is needed and there is none that is valid")
	text(&s.dir, "dir", "private directory for the sockets between the agent and Envoy")
	text(&s.workloadAPI, "workload-api", "path of the SPIFFE Workload API's socket; without it there is none")
	text(&s.relay, "ads-relay", "path of the socket where proxyless gRPC applications find the control plane; without it there is none")
	text(&s.mode, "app-socket-mode", "mode of the two sockets for applications; whoever may connect has the pod's identity")
	text(&s.ready, "ready", "loopback host:port, or unix:PATH, that answers /readyz; without it there is none. With HEDDLE_PROBE_PREFIX any host:port, for the kubelet")
	text(&s.envoy, "envoy", "path of Envoy (default: the one on PATH)")
	f.BoolVar(&s.noEnvoy, "no-envoy", false, "run no Envoy: only applications are served")
	text(&s.envoyLog, "envoy-log-level", "trace, debug, info, warning or error")
	f.IntVar(&s.concurrency, "concurrency", s.concurrency, "worker threads of Envoy")
	f.DurationVar(&s.drain, "drain-time", s.drain, "how long what is removed goes on serving what it has")
	f.DurationVar(&s.grace, "grace", s.grace, "how long what is under way may go on after SIGTERM; with nothing under way the end is at once")
	f.DurationVar(&s.flush, "flush-interval", s.flush, "how often Envoy pushes statistics to the control plane; 0: never")
	f.BoolVar(&s.healthChecks, "health-checks", false, "let Envoy ask the control plane what to check")
	f.BoolVar(&s.redirected, "await-redirection", false, "use the network only when heddle-sidecar init has redirected the pod's traffic")
	text(&s.captureBind, "capture-bind", "loopback network to bind outbound listeners in, where nothing redirects traffic")
	text(&s.captureApp, "capture-app", "loopback address of the application, where nothing redirects traffic")
	text(&s.logLevel, "log-level", "debug, info, warn or error")
	return f
}

// options turns the flags into what they mean.
func (s *settings) options(stderr io.Writer) (sidecar.Options, error) {
	level, err := zerolog.ParseLevel(s.logLevel)
	if err != nil || s.logLevel == "" {
		return sidecar.Options{}, fmt.Errorf("--log-level %q: want debug, info, warn or error", s.logLevel)
	}
	log := zerolog.New(stderr).Level(level).With().Timestamp().Logger()
	td, err := identity.ParseTrustDomain(s.trustDomain)
	if err != nil {
		return sidecar.Options{}, fmt.Errorf("--trust-domain: %w", err)
	}
	id, err := identity.ID(td, s.namespace, s.account)
	if err != nil {
		return sidecar.Options{}, fmt.Errorf("--namespace and --service-account: %w", err)
	}
	signer, err := idOr(s.signerID, td, "heddle-signer")
	if err != nil {
		return sidecar.Options{}, fmt.Errorf("--signer-id: %w", err)
	}
	plane, err := idOr(s.planeID, td, "heddle")
	if err != nil {
		return sidecar.Options{}, fmt.Errorf("--control-plane-id: %w", err)
	}
	if s.signer == "" || s.plane == "" {
		return sidecar.Options{}, errors.New("--signer and --control-plane: want host:port for both")
	}
	mode, err := strconv.ParseUint(s.mode, 8, 9)
	if err != nil {
		return sidecar.Options{}, fmt.Errorf("--app-socket-mode %q: want an octal mode, for example 0660", s.mode)
	}
	o := sidecar.Options{
		ID: id, BundleFile: s.bundle, TokenFile: s.tokenFile,
		Connect: func(t sidecar.Trust) sidecar.Signer {
			return client.New(client.Options{Address: s.signer, Signer: signer, Bundle: t.Bundle, Certificate: t.Certificate})
		},
		SDS: s.sds(), WorkloadAPI: s.workloadAPI, WorkloadMode: fs.FileMode(mode), Ready: s.ready, Log: log,
		Relay: sidecar.RelayOptions{
			Socket: s.relay, Mode: fs.FileMode(mode), Address: s.plane, ControlPlane: plane, Node: s.node(), Region: s.region, Zone: s.zone,
		},
	}
	if o.Kubelet, err = kubelet(os.Getenv); err != nil {
		return sidecar.Options{}, err
	}
	if s.joinSocket != "" {
		o.Join = s.joinAgain(s.token)
	}
	if s.joinTokenFile != "" {
		if o.Join, err = joinFile(s.joinTokenFile); err != nil {
			return sidecar.Options{}, err
		}
	}
	return s.withProxy(o, plane)
}

// withProxy adds Envoy, if there is one to run, and what must be there before it is.
func (s *settings) withProxy(o sidecar.Options, plane spiffeid.ID) (sidecar.Options, error) {
	var p *envoy.Proxy
	if !s.noEnvoy {
		var err error
		if p, err = s.proxy(plane, o.Log); err != nil {
			return sidecar.Options{}, err
		}
		o.Proxy = p
	}
	o.Prepare, o.Preparing = func(ctx context.Context) error { return s.prepare(ctx, p) }, "Envoy is being looked for"
	if s.redirected {
		o.Preparing = "heddle-init has not redirected the pod's traffic yet, or Envoy is being looked for"
	}
	return o, nil
}

// prepare is what would keep the kubelet waiting if it were done before there is somebody to answer it. There may be no Envoy.
func (s *settings) prepare(ctx context.Context, p *envoy.Proxy) error {
	if p != nil {
		if err := p.Find(ctx, envoy.FindOptions{Path: s.envoy, Offline: true}); err != nil {
			return err
		}
	}
	if s.redirected {
		return redirect.Await(ctx)
	}
	return nil
}

// Environment variables that injection sets: what the kubelet asks, and how it shows that it is the kubelet.
const (
	prefixVariable = "HEDDLE_PROBE_PREFIX"
	probesVariable = "HEDDLE_PROBES"
)

// patience is less than timeoutSeconds of the probes by which injection has the kubelet ask for /readyz, by what a busy node
// may need for the answer.
const patience = 4 * time.Second

func kubelet(getenv func(string) string) (sidecar.KubeletOptions, error) {
	probes, err := probe.Parse(getenv(probesVariable))
	if err != nil {
		return sidecar.KubeletOptions{}, fmt.Errorf("%s: %w", probesVariable, err)
	}
	return sidecar.KubeletOptions{
		Prefix: getenv(prefixVariable), Probes: probes, Patience: patience,
		Sources: probe.Sources{IPv4: redirect.Source4(), IPv6: redirect.Source6()},
	}, nil
}

func (s *settings) sds() string { return filepath.Join(s.dir, "sds.sock") }

func (s *settings) node() string { return s.namespace + "/" + s.pod }

func (s *settings) proxy(plane spiffeid.ID, log zerolog.Logger) (*envoy.Proxy, error) {
	labels, err := s.labelsOrFile()
	if err != nil {
		return nil, fmt.Errorf("--labels-file: %w", err)
	}
	capture, err := s.capture()
	if err != nil {
		return nil, err
	}
	o := envoy.Options{
		Bootstrap: bootstrap.Options{
			ID: s.node(), Region: s.region, Zone: s.zone, SDS: s.sds(),
			Server: bootstrap.Server{Address: s.plane, ID: plane.String()},
			Admin:  filepath.Join(s.dir, "admin.sock"), HealthChecks: s.healthChecks, FlushInterval: s.flush, Capture: capture,
			Agent: buildinfo.Get().Version,
		},
		Caller:      bootstrap.Caller{Namespace: s.namespace, Account: s.account, Labels: labels},
		Concurrency: s.concurrency, DrainTime: s.drain, Grace: s.grace, LogLevel: s.envoyLog, Log: log, Dir: s.dir,
	}
	// What is wrong with it must be said now, not when the first certificate has come.
	if _, err := bootstrap.New(o.Bootstrap); err != nil {
		return nil, err
	}
	return envoy.New(o), nil
}

func (s *settings) capture() (bootstrap.Capture, error) {
	if s.captureBind == "" && s.captureApp == "" {
		return bootstrap.Capture{}, nil
	}
	bind, err := netip.ParsePrefix(s.captureBind)
	if err != nil {
		return bootstrap.Capture{}, fmt.Errorf("--capture-bind: %w", err)
	}
	app, err := netip.ParseAddr(s.captureApp)
	if err != nil {
		return bootstrap.Capture{}, fmt.Errorf("--capture-app: %w", err)
	}
	return bootstrap.Capture{Bind: bind, App: app}, nil
}

// idOr reads an ID of the trust domain, or gives that of an account in the mesh's own namespace.
func idOr(text string, td spiffeid.TrustDomain, account string) (spiffeid.ID, error) {
	if text == "" {
		return identity.ID(td, "heddle-system", account)
	}
	id, err := spiffeid.FromString(text)
	if err == nil && !id.MemberOf(td) {
		err = fmt.Errorf("%s is not of trust domain %s", id, td)
	}
	return id, err
}

// readLabels reads KEY="VALUE" lines, as a downward API volume has them: the values are quoted as in Go.
func readLabels(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, quoted, _ := strings.Cut(line, "=")
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no KEY=\"VALUE\"", path, line)
		}
		labels[key] = value
	}
	return labels, nil
}
