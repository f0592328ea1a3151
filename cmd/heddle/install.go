package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/heddle-mesh/heddle/buildinfo"
	"github.com/heddle-mesh/heddle/deploy"
)

// valueFlags are the flags by which people say what they want of an installation.
type valueFlags struct {
	namespace        string
	highAvailability bool
	files            []string
	given            deploy.Given
}

func (f *valueFlags) register(flags *pflag.FlagSet) {
	flags.StringVarP(&f.namespace, "namespace", "n", deploy.DefaultNamespace, "the control plane's own namespace")
	flags.BoolVar(&f.highAvailability, "ha", false, "three replicas, and resources for many sidecars (the chart's values-ha.yaml)")
	flags.StringArrayVarP(&f.files, "values", "f", nil, "YAML file with values of the chart, - for standard input; later ones count")
	flags.StringArrayVar(&f.given.Set, "set", nil, "one value, KEY=VALUE, as with helm; counts more than --values")
	flags.StringArrayVar(&f.given.SetString, "set-string", nil, "the same, but VALUE is a string whatever it looks like")
	flags.StringVar(&f.given.Registry, "registry", "", "where images come from: REGISTRY/heddle and REGISTRY/heddle-proxy (value image.registry)")
	flags.StringVar(&f.given.Version, "version", "", "tag of both images (value image.version; default: the version of this program)")
	flags.StringVar(&f.given.Image, "image", "", "whole name of the control plane's image, by digest for example (value image.controlPlane)")
	flags.StringVar(&f.given.ProxyImage, "proxy-image", "", "whole name of the sidecar's image (value image.proxy)")
}

// release is what the flags ask for, over what was installed before.
func (f *valueFlags) release(ctx context.Context, installed []byte, stdin io.Reader) (deploy.Release, error) {
	given := f.given
	given.Installed, given.HighAvailability = installed, f.highAvailability
	for _, name := range f.files {
		if strings.Contains(name, "://") {
			return deploy.Release{}, fmt.Errorf("reading values: %s is a URL; fetch it and look at it first: curl -fsSL %s -o values.yaml", name, name)
		}
		text, err := readFile(ctx, name, stdin)
		if err != nil {
			return deploy.Release{}, fmt.Errorf("reading values: %w", err)
		}
		given.Files = append(given.Files, deploy.File{Name: name, Text: text})
	}
	values, err := deploy.Values(given)
	if err != nil {
		return deploy.Release{}, err
	}
	return deploy.Release{Namespace: f.namespace, Values: values, Version: buildinfo.Get().Version}, nil
}

func installCommand() *cobra.Command {
	var f valueFlags
	c := &cobra.Command{
		Use:   "install",
		Short: "Print the objects of an installation, for kubectl apply",
		Long: `Print the objects of an installation, for kubectl apply: exactly what the Helm chart renders, in the version of this program.
Needs no cluster.

Images are not published: make images or deploy/Dockerfile makes them, --registry says where they are, and --version with which tag.

The Namespace comes first and the webhooks last, and those leave the control plane's own namespace and kube-system alone. Applying
it twice changes nothing. docs/install.md lists all values.`,
		Example: `  heddle install | kubectl apply -f -
  heddle install --ha --set trustDomain=example.org | kubectl apply -f -
  heddle install -f values.yaml --registry registry.example.org/mesh | kubectl diff -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			release, err := f.release(cmd.Context(), nil, cmd.InOrStdin())
			if err != nil {
				return fmt.Errorf("install: %w", err)
			}
			text, err := render(release, cmd.ErrOrStderr())
			if err != nil {
				return fmt.Errorf("install: %w", err)
			}
			return printAll(cmd.OutOrStdout(), text)
		},
	}
	f.register(c.Flags())
	return c
}

func uninstallCommand() *cobra.Command {
	var o deploy.RemovalOptions
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Print what to delete to take Heddle out of a cluster, for kubectl delete",
		Long: `Print what to delete to take Heddle out of a cluster, for kubectl delete. Needs no cluster.

The webhooks come first: once they are gone nothing waits for the control plane. Kept are its Namespace, the Secret heddle-ca and
the ConfigMap heddle-trust, so that a new installation takes the mesh up where this one left it; --purge names them too. After
that no running sidecar gets a certificate again that others trust.

Sidecars stay in their pods until those are made anew, and work until their certificates expire. Take the label
heddle.dev/inject off namespaces, and restart what is in them, before.`,
		Example: `  heddle uninstall | kubectl delete --ignore-not-found -f -
  heddle uninstall --purge | kubectl delete --ignore-not-found -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := deploy.Removal(o)
			if err != nil {
				return fmt.Errorf("uninstall: %w", err)
			}
			return printAll(cmd.OutOrStdout(), text)
		},
	}
	c.Flags().StringVarP(&o.Namespace, "namespace", "n", deploy.DefaultNamespace, "the control plane's own namespace")
	c.Flags().BoolVar(&o.Purge, "purge", false, "name the Namespace, the CA and the trust bundle too")
	return c
}

// printAll writes a text whole, or says that it did not.
func printAll(w io.Writer, text string) error {
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("printing objects: %w", err)
	}
	return nil
}
