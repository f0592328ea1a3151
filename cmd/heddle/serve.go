package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/kube"
)

// serveFlags are the flags of heddle serve with their defaults. Each can be set by an environment variable too:
// HEDDLE_ and the flag's name in capitals, with _ for -.
type serveFlags struct {
	manifests  string
	state      string
	kubeconfig string
	context    string
	namespace  string
	socket     string
	listen     string
	drain      time.Duration
	logLevel   string
	logFormat  string
}

func serveCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `Run the control plane: watch a cluster, or a folder of manifests, and configure sidecars over ADS.

Sidecars dial a unix socket that only its owner may open. Every flag can be given by the environment: HEDDLE_SOCKET for
--socket. SIGTERM lets the streams of sidecars drain; they keep what they have until another control plane answers.`,
		Example: `  heddle serve --manifests examples/demo
  heddle serve --kubeconfig ~/.kube/config --log-format console`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnvironment(cmd.Flags(), os.LookupEnv)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return controlplane.New(o).Run(cmd.Context())
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.manifests, "manifests", "", "watch this folder of Kubernetes YAML instead of a cluster")
	flags.StringVar(&f.state, "state", "", "with --manifests: keep the last good policies and manifests in this folder (default: one of its own in $XDG_STATE_HOME/heddle, or ~/.local/state/heddle)")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "path of the kubeconfig (default: as kubectl, or in-cluster)")
	flags.StringVar(&f.context, "context", "", "context of the kubeconfig")
	flags.StringVar(&f.namespace, "namespace", controlplane.DefaultNamespace, "the control plane's own namespace, where mesh-wide policy lives")
	flags.StringVar(&f.socket, "socket", defaultSocket(), "unix socket that sidecars dial")
	checkedVar(flags, &f.listen, "listen", "127.0.0.1:15014", "address of /livez, /readyz and /metrics; empty for none", addressOrNone)
	flags.DurationVar(&f.drain, "drain", 5*time.Second, "how long streams may take to end on shutdown")
	checkedVar(flags, &f.logLevel, "log-level", "info", "debug, info, warn or error", oneOf("debug", "info", "warn", "error"))
	checkedVar(flags, &f.logFormat, "log-format", "json", "json or console", oneOf("json", "console"))
	return c
}

// defaultSocket is in the user's runtime folder, or the system's for root.
func defaultSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "heddle", "ads.sock")
	}
	if os.Getuid() == 0 {
		return "/run/heddle/ads.sock"
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("heddle-%d", os.Getuid()), "ads.sock")
}

func (f *serveFlags) options(stderr io.Writer) (controlplane.Options, error) {
	log, err := newLogger(stderr, f.logLevel, f.logFormat)
	if err != nil {
		return controlplane.Options{}, err
	}
	o := controlplane.Options{Socket: f.socket, Listen: f.listen, Namespace: f.namespace, Drain: f.drain, Log: log}
	if err := makeOwnFolder(filepath.Dir(f.socket)); err != nil {
		return o, fmt.Errorf("making the folder of the socket: %w; choose another --socket", err)
	}
	if f.manifests != "" {
		err := f.fromFolder(&o)
		return o, err
	}
	if f.state != "" {
		return o, errors.New("--state goes with --manifests: in a cluster the last good policies are kept as ControllerRevisions")
	}
	err = f.fromCluster(&o)
	return o, err
}

// makeOwnFolder makes a folder in which nobody else can put another socket in the place of ours. One that is there
// already must be ours or root's, and others may write to it only as they may to the system's temporary folder.
func makeOwnFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != os.Getuid() {
		return fmt.Errorf("%s belongs to user %d, who could put another socket there", dir, s.Uid)
	}
	if info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("everybody may write to %s and put another socket there", dir)
	}
	return nil
}

// fromFolder watches manifests. Their sidecars may be without redirection, so what they say that they bind counts.
func (f *serveFlags) fromFolder(o *controlplane.Options) error {
	state := f.state
	if state == "" {
		var err error
		if state, err = defaultState(f.manifests); err != nil {
			return fmt.Errorf("choosing where to keep the last good policies: %w; name a folder with --state", err)
		}
	}
	o.Source = kube.NewFolder(kube.FolderOptions{Dir: f.manifests, State: filepath.Join(state, "manifests"), Log: o.Log})
	o.LastGood = kube.NewStateFolder(filepath.Join(state, "policies"), o.Log)
	o.Unredirected = true
	return nil
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

// fromCluster watches an API server.
func (f *serveFlags) fromCluster(o *controlplane.Options) error {
	config, err := kube.ClientConfig(kube.ClientOptions{Kubeconfig: f.kubeconfig, Context: f.context})
	if err != nil {
		return err
	}
	cluster, err := kube.NewCluster(kube.ClusterOptions{Config: config, Log: o.Log})
	if err != nil {
		return err
	}
	o.Source, o.Status, o.LastGood = cluster, cluster.Status, cluster.Revisions()
	return nil
}
