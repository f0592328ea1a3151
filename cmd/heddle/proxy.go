package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/heddle-mesh/heddle/check"
	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/controlplane/reach"
)

// proxyFlags are the flags of heddle proxy.
type proxyFlags struct {
	clusterFlags
	all       bool
	output    string
	selector  string
	kinds     string
	manifests string
	logs      corev1.PodLogOptions
	since     time.Duration
	tail      int64
}

func proxyCommand() *cobra.Command {
	var f proxyFlags
	c := &cobra.Command{
		Use:               "proxy",
		Short:             "Look at sidecars: whether they are synced, what they are served, what they log",
		PersistentPreRunE: chooseSocket,
	}
	flags := c.PersistentFlags()
	f.connect(flags)
	flags.StringVarP(&f.namespace, "namespace", "n", "", "namespace (default: the context's)")
	flags.StringVar(&f.socket, "socket", "", "ask the control plane behind this unix socket (heddle serve) instead of a cluster's")
	c.AddCommand(f.statusCommand(), f.configCommand(), f.logsCommand())
	return c
}

func (f *proxyFlags) statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show every connected sidecar: synced, versions acknowledged, refusals, certificate",
		Long: `Show every sidecar that is connected to the control plane. SYNCED says whether Envoy has acknowledged all that it is to have;
the columns of the kinds have how many resources that are, with … while some are on their way and ×N where Envoy refused N (its
reason is below). -o wide adds the versions: two sidecars that are to have the same have the same version. -l goes by the labels that
their pods have now.`,
		Example: `  heddle proxy status -n shop
  heddle proxy status -n shop -l 'app=web,version in (v1, v2)' -o name
  heddle proxy status -A -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.status(cmd.Context(), cmd.OutOrStdout()) },
	}
	c.Flags().BoolVarP(&f.all, "all-namespaces", "A", false, "of all namespaces")
	f.output = "table"
	c.Flags().VarP(checked{&f.output, oneOf("table", "wide", "json", "yaml", "name")}, "output", "o", "table, wide, json, yaml or name")
	c.Flags().VarP(checked{&f.selector, isSelector}, "selector", "l", "only pods with such labels, as with kubectl: app=web, version!=v1, 'version in (v1, v2)', canary, '!canary'")
	f.complete(c)
	return c
}

func (f *proxyFlags) status(ctx context.Context, out io.Writer) error {
	namespace := f.inNamespace()
	if f.all {
		namespace = ""
	}
	replicas, err := f.replicas(ctx, namespace)
	if err != nil {
		return err
	}
	proxies, err := reach.Proxies(ctx, replicas, namespace)
	if err != nil {
		return err
	}
	return f.show(out, proxies, namespace)
}

// isSelector checks that a value is a selector of labels.
func isSelector(s string) error {
	_, err := labels.Parse(s)
	return err
}

// show prints the sidecars of a namespace, or of all.
func (f *proxyFlags) show(out io.Writer, proxies []api.Proxy, namespace string) error {
	selector, err := labels.Parse(f.selector)
	if err != nil {
		return fmt.Errorf("--selector %s: %w", f.selector, err)
	}
	proxies = slices.DeleteFunc(proxies, func(p api.Proxy) bool { return !selector.Matches(labels.Set(p.Labels)) })
	text := ""
	switch f.output {
	case "json":
		return printJSON(out, proxies)
	case "yaml":
		b, err := yaml.Marshal(proxies)
		if err != nil {
			return fmt.Errorf("print as YAML: %w", err)
		}
		text = string(b)
	case "name":
		for _, p := range proxies {
			text += "pod/" + p.Pod + "\n"
		}
	default:
		text = proxyTable(proxies, time.Now(), f.output == "wide")
		if len(proxies) == 0 {
			text = f.nothing(namespace)
		}
	}
	if _, err := io.WriteString(out, text); err != nil {
		return fmt.Errorf("print the sidecars: %w", err)
	}
	return nil
}

// nothing says that there is no sidecar to show.
func (f *proxyFlags) nothing(namespace string) string {
	of, where := "No sidecar", "in namespace "+namespace+"; -A looks in all"
	if f.selector != "" {
		of += " of a pod with labels " + f.selector
	}
	if namespace == "" {
		where = "to this control plane"
	}
	return of + " is connected " + where + "\n"
}

func (f *proxyFlags) configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config POD",
		Short: "Show what a sidecar is served, or would be",
		Long: `Show the listeners, routes, clusters and endpoints that a pod's sidecar is served by the control plane, or would be if it were
connected. With --manifests no control plane is needed: the folder's Kubernetes YAML is translated here. -o json prints
Envoy's own messages.`,
		Example: `  heddle proxy config -n shop web-7d4b9c5f6-x2x9z
  heddle proxy config shop/web-7d4b9c5f6-x2x9z --kind route -o json
  heddle proxy config shop/web-1 --manifests examples/demo`,
		Args: onePod,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.config(cmd.Context(), args[0], cmd.OutOrStdout())
		},
		ValidArgsFunction: f.sidecarPods,
	}
	output := "table"
	c.Flags().VarP(checked{&output, oneOf("table", "json")}, "output", "o", "table or json")
	c.PreRun = func(*cobra.Command, []string) { f.output = output }
	c.Flags().Var(checked{&f.kinds, oneOf("listener", "route", "cluster", "endpoints")}, "kind", "only these: listener, route, cluster or endpoints")
	c.Flags().StringVar(&f.manifests, "manifests", "", "ask no control plane: translate this folder of Kubernetes YAML")
	f.complete(c)
	return c
}

func (f *proxyFlags) config(ctx context.Context, arg string, out io.Writer) error {
	namespace, pod, err := f.pod(arg)
	if err != nil {
		return err
	}
	config, err := f.served(ctx, namespace, pod)
	if err != nil {
		return err
	}
	if f.kinds != "" {
		var some []api.Resource
		for _, r := range config.Resources {
			if r.Type == f.kinds {
				some = append(some, r)
			}
		}
		config.Resources = some
	}
	if f.output == "json" {
		return printJSON(out, config)
	}
	text, err := configTable(config)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, text)
	return err
}

// served asks who knows.
func (f *proxyFlags) served(ctx context.Context, namespace, pod string) (api.Config, error) {
	if f.manifests != "" {
		return offline(ctx, f.manifests, namespace, pod)
	}
	replicas, err := f.replicas(ctx, namespace)
	if err != nil {
		return api.Config{}, err
	}
	return reach.Config(ctx, replicas, namespace, pod)
}

func (f *proxyFlags) logsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "logs POD",
		Short: "Print the log of a pod's sidecar",
		Example: `  heddle proxy logs -n shop web-7d4b9c5f6-x2x9z --since 10m
  heddle proxy logs shop/web-7d4b9c5f6-x2x9z -f`,
		Args: onePod,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.printLogs(cmd.Context(), args[0], cmd.OutOrStdout())
		},
		ValidArgsFunction: f.sidecarPods,
	}
	c.Flags().BoolVarP(&f.logs.Follow, "follow", "f", false, "go on printing")
	c.Flags().BoolVarP(&f.logs.Previous, "previous", "p", false, "of the container before this one")
	c.Flags().BoolVar(&f.logs.Timestamps, "timestamps", false, "with the time of each line")
	c.Flags().DurationVar(&f.since, "since", 0, "no older than this")
	c.Flags().Int64Var(&f.tail, "tail", -1, "only so many of the last lines")
	f.complete(c)
	return c
}

func (f *proxyFlags) printLogs(ctx context.Context, arg string, out io.Writer) error {
	namespace, pod, err := f.pod(arg)
	if err != nil {
		return err
	}
	client, _, err := f.client()
	if err != nil {
		return err
	}
	f.logs.Container = check.ProxyContainer
	if f.since > 0 {
		seconds := max(1, int64(f.since.Seconds()))
		f.logs.SinceSeconds = &seconds
	}
	if f.tail >= 0 {
		f.logs.TailLines = &f.tail
	}
	stream, err := client.CoreV1().Pods(namespace).GetLogs(pod, &f.logs).Stream(ctx)
	what := fmt.Sprintf("read the log of the sidecar of pod %s/%s", namespace, pod)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s: there is no such pod; kubectl get pods -n %s lists those that there are", what, namespace)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s: %w; have somebody bind you a Role that gets pods/log", what, err)
	case apierrors.IsBadRequest(err):
		return fmt.Errorf("%s: %w; heddle proxy status -n %s lists the pods with sidecars", what, err, namespace)
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	}
	defer stream.Close()
	if _, err := io.Copy(out, stream); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	return nil
}
