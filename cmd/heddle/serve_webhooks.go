package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/admission"
	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/injector"
)

// webhookFlags say where the API server asks about pods and policies, and what sidecars are made of.
type webhookFlags struct {
	address    string
	image      string
	pullPolicy string
	defaults   annotations
}

func (f *webhookFlags) add(flags *pflag.FlagSet) {
	checkedVar(flags, &f.address, "webhooks", ":15017", "with --role server: address where the API server asks about pods and policies; empty for none", addressOrNone)
	flags.StringVar(&f.image, "proxy-image", "", "with --role server: the image of sidecars, such as registry.example.org/mesh/heddle-proxy:VERSION")
	checkedVar(flags, &f.pullPolicy, "proxy-pull-policy", string(corev1.PullIfNotPresent), "when that image is pulled: IfNotPresent, Always or Never",
		oneOf(string(corev1.PullIfNotPresent), string(corev1.PullAlways), string(corev1.PullNever)))
	flags.Var(&f.defaults, "proxy-defaults", "annotations that a pod in the mesh has unless it says otherwise: heddle.dev/drain-time=9s,...")
}

// additions are what the flags add to a server.
func (f *webhookFlags) additions(p *controlplane.Plane, client kubernetes.Interface, o controlplane.Options) (controlplane.Additions, error) {
	if f.address == "" {
		return controlplane.Additions{}, nil
	}
	sidecars, err := f.sidecars(o.TrustDomain.Name(), o.Namespace)
	if err != nil {
		return controlplane.Additions{}, err
	}
	w := controlplane.NewWebhooks(p, controlplane.WebhookOptions{Client: client, Injector: sidecars})
	return controlplane.Additions{
		Webhooks: w.Handler(), Leads: []func(context.Context){w.WriteStatus}, Runs: []func(context.Context) error{w.Run},
	}, nil
}

// sidecars gives the injector, or what is wrong with what pods have by default.
func (f *webhookFlags) sidecars(trustDomain, namespace string) (*admission.Sidecars, error) {
	if f.image == "" {
		return nil, fmt.Errorf("answer the API server at %s: name the image of sidecars with --proxy-image, or switch the webhooks off with --webhooks ''", f.address)
	}
	return admission.NewSidecars(injector.Options{
		Image: f.image, PullPolicy: corev1.PullPolicy(f.pullPolicy), TrustDomain: trustDomain, System: namespace,
		ControlPlane: "heddle." + namespace + ".svc:15010", Signer: "heddle-signer." + namespace + ".svc:15012",
		Defaults: f.defaults,
	})
}

// annotations are written as key=value,key=value; a value with a comma is quoted with its key, as CSV has it.
type annotations map[string]string

// Set implements [pflag.Value].
func (a *annotations) Set(text string) error {
	*a = nil
	if text == "" {
		return nil
	}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return err
	}
	all := annotations{}
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return fmt.Errorf("%q: want KEY=VALUE", f)
		}
		all[strings.TrimSpace(key)] = value
	}
	*a = all
	return nil
}

// String implements [pflag.Value].
func (a *annotations) String() string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(*a)) {
		all = append(all, key+"="+(*a)[key])
	}
	return strings.Join(all, ",")
}

// Type implements [pflag.Value].
func (a *annotations) Type() string { return "KEY=VALUE,..." }
