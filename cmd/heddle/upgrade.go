package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/deploy"
	"github.com/heddle-mesh/heddle/kube"
)

// upgradeFlags are the flags of heddle upgrade.
type upgradeFlags struct {
	valueFlags
	kubeconfig, context string
	from                string // file with the installed values; empty: ask the cluster
	reset               bool
}

func upgradeCommand() *cobra.Command {
	var f upgradeFlags
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Print the objects of an upgrade, with the values of the installation, for kubectl apply",
		Long: `Print the objects of an upgrade, for kubectl apply: what heddle install prints with the values of the installation that is there.

They stand in the ConfigMap heddle-config, which is all that is read of the cluster; what was never asked for takes the defaults
of this version. Flags change values for now and later. What is kept, and what the upgrade leaves behind, goes to standard error.`,
		Example: `  heddle upgrade | kubectl apply -f -
  heddle upgrade --ha | kubectl diff -f -
  heddle upgrade --from-values installed.yaml | kubectl apply -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := f.render(cmd)
			if err != nil {
				return fmt.Errorf("upgrade: %w", err)
			}
			return printAll(cmd.OutOrStdout(), text)
		},
	}
	f.register(c.Flags())
	c.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "path of the kubeconfig (default: as kubectl)")
	c.Flags().StringVar(&f.context, "context", "", "context of the kubeconfig")
	c.Flags().StringVar(&f.from, "from-values", "", "YAML file with the installed values, - for standard input, instead of asking the cluster")
	c.Flags().BoolVar(&f.reset, "reset-values", false, "forget the installed values: the defaults count, and what the flags say")
	return c
}

// installation is what a cluster says of itself.
type installation struct {
	values  []byte
	version string // empty: not known
}

// render gives the objects, and tells people what they should know of them.
func (f *upgradeFlags) render(cmd *cobra.Command) (string, error) {
	was, err := f.installed(cmd.Context(), cmd.InOrStdin())
	if err != nil {
		return "", err
	}
	before, err := (&valueFlags{namespace: f.namespace}).release(cmd.Context(), was.values, nil)
	if err != nil {
		return "", err
	}
	kept := was.values
	if f.reset {
		kept = nil
	}
	release, err := f.release(cmd.Context(), kept, cmd.InOrStdin())
	if err != nil {
		return "", err
	}
	text, err := render(release, cmd.ErrOrStderr())
	if err != nil {
		return "", err
	}
	if err := sameTrustDomain(before, release); err != nil {
		return "", err
	}
	return text, f.tell(cmd.ErrOrStderr(), was, before, rendering{release, text})
}

// sameTrustDomain refuses what would take every running sidecar out of the mesh at once.
func sameTrustDomain(before, after deploy.Release) error {
	was, err := before.TrustDomain()
	if err != nil {
		return fmt.Errorf("the installed values: %w", err)
	}
	will, err := after.TrustDomain()
	if err != nil {
		return err
	}
	if was != will {
		return fmt.Errorf("the trust domain is %s and cannot become %s: no sidecar that runs would trust the new one; keep it with --set trustDomain=%s, or heddle uninstall --purge and start anew", was, will, was)
	}
	return nil
}

// installed asks for the values of the installation.
func (f *upgradeFlags) installed(ctx context.Context, stdin io.Reader) (installation, error) {
	if f.from != "" {
		text, err := readFile(ctx, f.from, stdin)
		if err != nil {
			return installation{}, fmt.Errorf("reading the installed values: %w", err)
		}
		return installation{values: text}, nil
	}
	config, err := kube.ClientConfig(kube.ClientOptions{Kubeconfig: f.kubeconfig, Context: f.context})
	if err != nil {
		return installation{}, fmt.Errorf("%w; without a cluster, --from-values FILE names the installed values", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return installation{}, fmt.Errorf("make a client of API server %s: %w", config.Host, err)
	}
	name := fmt.Sprintf("ConfigMap %s/%s", f.namespace, deploy.ConfigMap)
	m, err := client.CoreV1().ConfigMaps(f.namespace).Get(ctx, deploy.ConfigMap, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return installation{}, fmt.Errorf("there is no %s, so no Heddle that heddle install or Helm brought here; another --namespace, or heddle install", name)
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return installation{}, fmt.Errorf("read %s: %w; whoever may can save it for --from-values: kubectl get configmap -n %s %s -o go-template='{{index .data %q}}'",
			name, err, f.namespace, deploy.ConfigMap, deploy.ValuesItem)
	case err != nil:
		return installation{}, fmt.Errorf("read %s: %w", name, err)
	}
	values, ok := m.Data[deploy.ValuesItem]
	if !ok {
		return installation{}, errors.New(name + " has no " + deploy.ValuesItem + ", which says what was asked for; heddle install prints the objects from what you ask for now")
	}
	return installation{[]byte(values), m.Data[deploy.VersionItem]}, nil
}

// rendering is a release with its objects.
type rendering struct {
	release deploy.Release
	text    string
}

// tell says what an upgrade keeps, and what it leaves behind.
func (f *upgradeFlags) tell(w io.Writer, was installation, before deploy.Release, after rendering) error {
	version, err := after.release.Installs()
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "heddle: upgrade of namespace %s from %s to %s", f.namespace, cmp.Or(was.version, "an unknown version"), version)
	switch {
	case len(before.Values) == 0:
		b.WriteString("; nothing but defaults was installed\n")
	case f.reset:
		b.WriteString("; forgets what was asked for before\n")
	default:
		fmt.Fprintf(&b, "; keeps, unless a flag says otherwise:\n%s\n", indent(string(was.values)))
	}
	old, err := deploy.Render(before)
	if err != nil { // values of an older chart, which this one does not have
		fmt.Fprintf(&b, "heddle: what is left behind cannot be said, since the installed values are not this version's: %v\n", err)
		_, err = io.WriteString(w, b.String())
		return err
	}
	left, err := deploy.Leftover(old, after.text)
	if err != nil {
		return err
	}
	for _, o := range left {
		fmt.Fprintf(&b, "heddle: no longer part of it, and left where it is: kubectl delete %s\n", o)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("saying what is kept: %w", err)
	}
	return nil
}

// indent sets YAML off from what stands around it.
func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
}
