package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/controlplane/operator"
	"github.com/heddle-mesh/heddle/controlplane/reach"
	"github.com/heddle-mesh/heddle/kube"
)

// clusterFlags say which cluster, and what part of it.
type clusterFlags struct {
	kubeconfig   string
	context      string
	namespace    string
	controlPlane string
	socket       string
}

// connect adds the flags of who asks a cluster.
func (f *clusterFlags) connect(flags *pflag.FlagSet) {
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "path of the kubeconfig (default: as kubectl)")
	flags.StringVar(&f.context, "context", "", "context of the kubeconfig")
	flags.StringVar(&f.controlPlane, "heddle-namespace", controlplane.DefaultNamespace, "namespace of the control plane")
}

// namesCluster says that a flag names a cluster.
func namesCluster(c *cobra.Command) bool {
	for _, name := range []string{"kubeconfig", "context", "heddle-namespace"} {
		if c.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// chooseSocket takes --socket, or HEDDLE_SOCKET where no flag names a cluster: what is typed counts more.
func chooseSocket(c *cobra.Command, _ []string) error {
	flag := c.Flag("socket")
	switch {
	case !namesCluster(c):
		socket := pflag.NewFlagSet("", pflag.ContinueOnError)
		socket.AddFlag(flag)
		return fromEnvironment(socket, os.LookupEnv)
	case flag.Changed:
		return errors.New("--socket names a control plane without a cluster: leave it away, or --kubeconfig, --context and --heddle-namespace")
	}
	return nil
}

// complete adds what shells are to offer for the flags.
func (f *clusterFlags) complete(c *cobra.Command) {
	offer := func(name string, list func(*cobra.Command) []string) {
		if c.Flag(name) == nil {
			return
		}
		// It fails for a flag that does not exist or has one already: a mistake of ours, which the tests would show.
		_ = c.RegisterFlagCompletionFunc(name, func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return list(c), cobra.ShellCompDirectiveNoFileComp
		})
	}
	offer("namespace", f.namespaces)
	offer("heddle-namespace", f.namespaces)
	offer("context", func(*cobra.Command) []string { return kube.Contexts(f.options()) })
}

func (f *clusterFlags) options() kube.ClientOptions {
	return kube.ClientOptions{Kubeconfig: f.kubeconfig, Context: f.context}
}

// client gives a client, and what it was made of.
func (f *clusterFlags) client() (kubernetes.Interface, *rest.Config, error) {
	config, err := kube.ClientConfig(f.options())
	if err != nil {
		return nil, nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	return client, config, nil
}

// replicas are whom to ask: the control plane behind --socket, or else each replica of the cluster's. namespace is whose facts are
// wanted, empty for all.
func (f *clusterFlags) replicas(ctx context.Context, namespace string) ([]reach.Asker, error) {
	if f.socket != "" {
		return []reach.Asker{reach.Socket{Client: operator.Client{Socket: f.socket}}}, nil
	}
	client, config, err := f.client()
	if err != nil {
		return nil, err
	}
	cp, err := reach.Open(ctx, reach.Options{Config: config, Client: client, ControlPlane: f.controlPlane, Namespace: namespace})
	if err != nil {
		return nil, err
	}
	var all []reach.Asker
	for _, r := range cp.Replicas() {
		all = append(all, r)
	}
	return all, nil
}

// inNamespace is the namespace that was named, or else the context's.
func (f *clusterFlags) inNamespace() string {
	if f.namespace != "" || f.socket != "" {
		return f.namespace
	}
	return kube.Namespace(f.options())
}

// pod reads a pod's name: NAME, of the namespace in force, or NAMESPACE/NAME.
func (f *clusterFlags) pod(arg string) (namespace, name string, err error) {
	name = strings.TrimPrefix(arg, "pod/")
	if before, after, has := strings.Cut(name, "/"); has {
		if f.namespace != "" && f.namespace != before {
			return "", "", fmt.Errorf("pod %s is named in another namespace than -n %s: leave one of the two away", name, f.namespace)
		}
		namespace, name = before, after
	} else {
		namespace = f.inNamespace()
	}
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", fmt.Errorf("%q names no pod: want NAME with -n NAMESPACE, or NAMESPACE/NAME", arg)
	}
	return namespace, name, nil
}

// completionPatience is as long as somebody waits who has pressed the tab key.
const completionPatience = 3 * time.Second

// namespaces lists those of the cluster, for shells. What cannot be listed is not offered.
func (f *clusterFlags) namespaces(c *cobra.Command) []string {
	client, _, err := f.client()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.Context(), completionPatience)
	defer cancel()
	list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	var names []string
	for _, n := range list.Items {
		names = append(names, n.Name)
	}
	return names
}

// sidecarPods lists the pods with sidecars of the namespace in force, for shells.
func (f *clusterFlags) sidecarPods(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	client, _, err := f.client()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completionPatience)
	defer cancel()
	list, err := client.CoreV1().Pods(f.inNamespace()).List(ctx, metav1.ListOptions{LabelSelector: "heddle.dev/sidecar=true"})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, p := range list.Items {
		names = append(names, p.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// onePod wants one argument, a pod.
func onePod(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("want the name of one pod; heddle proxy status lists those with sidecars")
	}
	return nil
}
