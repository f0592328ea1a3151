// Command setup fetches and builds what the tests run against, once, into the user's cache directory: an Envoy, etcd
// and a Kubernetes API server. With everything there it takes no time and needs no network. Tests that are run
// without it do the same on their own; it is here so that a long wait has a name and progress of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/heddle-mesh/heddle/sidecar/envoy"
	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	path, err := envoy.Find(ctx, envoy.FindOptions{Progress: os.Stdout})
	if err != nil {
		return err
	}
	fmt.Println("Envoy:", path)
	b, err := kubetest.Install(ctx, kubetest.InstallOptions{Progress: os.Stdout})
	if err != nil {
		return err
	}
	fmt.Println("Kubernetes:", b.APIServer)
	return nil
}
