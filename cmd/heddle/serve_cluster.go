package main

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/kube"
)

// Roles of a process of the control plane.
const (
	roleAll    = "all"
	roleServer = "server"
	roleSigner = "signer"
)

// serveCluster watches an API server, and signs for its pods, or does one of both.
func (f *serveFlags) serveCluster(ctx context.Context, o controlplane.Options, first controlplane.FirstCA) error {
	config, err := kube.ClientConfig(kube.ClientOptions{Kubeconfig: f.kubeconfig, Context: f.context})
	if err != nil {
		return err
	}
	cluster, err := kube.NewCluster(kube.ClusterOptions{Config: config, Log: o.Log})
	if err != nil {
		return err
	}
	o.Source, o.Status, o.LastGood = cluster, cluster.Status, cluster.Revisions()
	host, err := os.Hostname() // a pod's is its name
	if err != nil {
		return fmt.Errorf("choosing a name among the replicas: %w", err)
	}
	client, err := cluster.Unlimited()
	if err != nil {
		return err
	}
	if f.role == roleServer {
		return f.serveServer(ctx, o, client, host)
	}
	ca, err := cluster.Unlimited()
	if err != nil {
		return err
	}
	if f.role == roleSigner {
		return controlplane.SignerRole{
			Signer:  controlplane.SignerOptions{TrustDomain: o.TrustDomain, Namespace: o.Namespace, Lifetime: f.lifetime, First: first, Log: o.Log},
			Cluster: controlplane.ClusterOptions{Client: client, CA: ca, Identity: host},
			Address: cmp.Or(f.signer, ":15012"), Listen: o.Listen, Operator: f.socket,
		}.Run(ctx)
	}
	r := controlplane.Replica{
		Plane: o, Client: client, CA: ca, Identity: host, Operator: f.socket, API: f.api, Lifetime: f.lifetime, First: first,
		Sidecars: cmp.Or(f.sidecars, ":15010"), Signer: cmp.Or(f.signer, ":15012"),
	}
	return r.Run(ctx)
}

// serveServer does all but sign.
func (f *serveFlags) serveServer(ctx context.Context, o controlplane.Options, client kubernetes.Interface, host string) error {
	s, err := controlplane.NewServer(controlplane.ServerOptions{
		Plane: o, Client: client, Identity: host, Sidecars: cmp.Or(f.sidecars, ":15010"),
		Signer:    cmp.Or(f.signer, "heddle-signer."+o.Namespace+".svc:15012"),
		TokenFile: f.tokenFile, BundleFile: f.bundleFile, Webhooks: f.webhooks.address, Lifetime: f.lifetime,
	})
	if err != nil {
		return err
	}
	additions, err := f.webhooks.additions(s.Plane(), client, o)
	if err != nil {
		return err
	}
	additions.API = f.api
	return s.Run(ctx, additions)
}
