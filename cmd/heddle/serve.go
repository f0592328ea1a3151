package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/local"
)

// serveFlags are the flags of heddle serve with their defaults. Each can be set by an environment variable too:
// HEDDLE_ and the flag's name in capitals, with _ for -.
type serveFlags struct {
	role        string
	manifests   string
	state       string
	kubeconfig  string
	context     string
	namespace   string
	socket      string
	sidecars    string
	signer      string
	tokenFile   string
	bundleFile  string
	trustDomain string
	lifetime    time.Duration
	listen      string
	api         string
	drain       time.Duration
	logLevel    string
	logFormat   string
	webhooks    webhookFlags
	ca          caFlags
}

func serveCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `Run the control plane: watch a cluster, or a folder of manifests, and configure sidecars over ADS.

Sidecars get their identities from --signer and their configuration from --sidecars, both by TLS 1.3 alone. The unix
socket is for whoever runs this: heddle identity, and sidecars that are started by hand, use it. Every flag can be given
by the environment: HEDDLE_SOCKET for --socket. SIGTERM lets the streams of sidecars drain; they keep what they have until
another control plane answers.

In a cluster there are two kinds of processes. One with --role signer keeps the CA and signs; it alone reads the Secret. One
with --role server does everything else, and gets its own certificates from the signer as sidecars do.`,
		Example: `  heddle serve --manifests examples/demo
  heddle serve --kubeconfig ~/.kube/config --log-format console
  heddle serve --role server --listen :15014`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnvironment(cmd.Flags(), os.LookupEnv)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.serve(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	f.register(c.Flags())
	return c
}

// register adds the flags, with their defaults.
func (f *serveFlags) register(flags *pflag.FlagSet) {
	checkedVar(flags, &f.role, "role", roleAll, "server, signer, or all in one process", oneOf(roleServer, roleSigner, roleAll))
	flags.StringVar(&f.manifests, "manifests", "", "watch this folder of Kubernetes YAML instead of a cluster")
	flags.StringVar(&f.state, "state", "", "with --manifests: keep the CA, the last good policies and manifests in this folder (default: one of its own in $XDG_STATE_HOME/heddle, or ~/.local/state/heddle)")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "path of the kubeconfig (default: as kubectl, or in-cluster)")
	flags.StringVar(&f.context, "context", "", "context of the kubeconfig")
	flags.StringVar(&f.namespace, "namespace", controlplane.DefaultNamespace, "the control plane's own namespace, where mesh-wide policy lives")
	flags.StringVar(&f.socket, "socket", defaultSocket(), "unix socket for whoever runs this, and nobody else")
	checkedVar(flags, &f.sidecars, "sidecars", "", "address where sidecars get their configuration (default :15010, with --manifests 127.0.0.1:15010)", addressOrNone)
	checkedVar(flags, &f.signer, "signer", "", "address where sidecars get their identities (default :15012, with --manifests 127.0.0.1:15012); with --role server that of the signer to ask (default heddle-signer.NAMESPACE.svc:15012)", addressOrNone)
	flags.StringVar(&f.tokenFile, "token-file", "/var/run/secrets/heddle/token", "with --role server: file with this pod's token for the signer, of audience heddle")
	flags.StringVar(&f.bundleFile, "bundle-file", "/var/run/heddle/trust/bundle.json", "with --role server: file with the trust bundle to start with")
	checkedVar(flags, &f.trustDomain, "trust-domain", controlplane.DefaultTrustDomain, "name in all identities: spiffe://NAME/ns/.../sa/...", trustDomain)
	flags.DurationVar(&f.lifetime, "certificate-lifetime", identity.DefaultLifetime, "of sidecars' certificates; they are renewed at half of it")
	checkedVar(flags, &f.listen, "listen", "127.0.0.1:15014", "address of /livez, /readyz and /metrics; empty for none", addressOrNone)
	f.ca.add(flags)
	f.webhooks.add(flags)
	checkedVar(flags, &f.api, "api", defaultAPI(), "loopback address where the command line asks by port-forward, in a cluster only; empty for none", addressOrNone)
	flags.DurationVar(&f.drain, "drain", 5*time.Second, "how long streams may take to end on shutdown")
	checkedVar(flags, &f.logLevel, "log-level", "info", "debug, info, warn or error", oneOf("debug", "info", "warn", "error"))
	checkedVar(flags, &f.logFormat, "log-format", "json", "json or console", oneOf("json", "console"))
}

// defaultAPI is for pods, each of which has a loopback of its own.
func defaultAPI() string {
	if os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return ""
	}
	return fmt.Sprintf("127.0.0.1:%d", api.Port)
}

// defaultSocket is in the user's runtime folder, or the system's for root.
func defaultSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "heddle", "operator.sock")
	}
	if os.Getuid() == 0 {
		return "/run/heddle/operator.sock"
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("heddle-%d", os.Getuid()), "operator.sock")
}

// serve runs a control plane until ctx ends.
func (f *serveFlags) serve(ctx context.Context, stderr io.Writer) error {
	if err := f.check(); err != nil {
		return err
	}
	log, err := newLogger(stderr, f.logLevel, f.logFormat)
	if err != nil {
		return err
	}
	td, err := identity.ParseTrustDomain(f.trustDomain)
	if err != nil {
		return err
	}
	o := controlplane.Options{
		Listen: f.listen, Namespace: f.namespace, TrustDomain: td, Drain: f.drain, Registry: prometheus.NewRegistry(), Log: log,
	}
	if f.role != roleAll && f.manifests != "" {
		return fmt.Errorf("--role %s is for a cluster; with --manifests one process does all", f.role)
	}
	if f.role == roleServer && f.ca != (caFlags{}) {
		return errors.New("--ca-chain and its like are for who signs: give them to the process with --role signer")
	}
	first, err := f.ca.first(td)
	if err != nil {
		return err
	}
	if f.role != roleServer {
		if err := operator.OwnFolder(filepath.Dir(f.socket)); err != nil {
			return fmt.Errorf("making the folder of the socket: %w; choose another --socket", err)
		}
	}
	if f.manifests != "" {
		return f.serveFolder(ctx, o, first)
	}
	if f.state != "" {
		return errors.New("--state goes with --manifests: in a cluster the last good policies are kept as ControllerRevisions")
	}
	return f.serveCluster(ctx, o, first)
}

// serveFolder watches manifests. Their sidecars may be without redirection, so what they say that they bind counts.
func (f *serveFlags) serveFolder(ctx context.Context, o controlplane.Options, first controlplane.FirstCA) error {
	// Before anything is made: a name that was misspelt must not leave a CA behind.
	if info, err := os.Stat(f.manifests); err != nil || !info.IsDir() {
		return fmt.Errorf("there is no folder %s; name an existing one with --manifests", f.manifests)
	}
	state, err := f.stateFolder()
	if err != nil {
		return err
	}
	o.Source = kube.NewFolder(kube.FolderOptions{Dir: f.manifests, State: filepath.Join(state, "manifests"), Log: o.Log})
	o.LastGood = kube.NewStateFolder(filepath.Join(state, "policies"), o.Log)
	m, err := local.New(local.Options{
		Dir: state, CA: filepath.Join(state, "ca"), Plane: o, Operator: f.socket, Lifetime: f.lifetime, First: first, Log: o.Log,
		Sidecars: cmp.Or(f.sidecars, "127.0.0.1:15010"), Signer: cmp.Or(f.signer, "127.0.0.1:15012"),
	})
	if err != nil {
		return err
	}
	return m.Run(ctx)
}

// stateFolder is where what must outlive a restart is kept.
func (f *serveFlags) stateFolder() (string, error) {
	if f.state != "" {
		return f.state, nil
	}
	state, err := defaultState(f.manifests)
	if err != nil {
		return "", fmt.Errorf("choosing where to keep the CA and the last good policies: %w; name a folder with --state", err)
	}
	return state, nil
}

// defaultState is where state is kept of a folder of manifests, by its path: in the user's state folder, which outlives
// a reboot, as the socket's folder may not (XDG Base Directory Specification).
func defaultState(manifests string) (string, error) {
	path, err := filepath.Abs(manifests)
	if err != nil {
		return "", err
	}
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) { // which the specification says to ignore
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		base = filepath.Join(home, ".local", "state")
	}
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(base, "heddle", filepath.Base(path)+"-"+hex.EncodeToString(sum[:4])), nil
}

// trustDomain checks the value of --trust-domain.
func trustDomain(name string) error {
	_, err := identity.ParseTrustDomain(name)
	return err
}
