//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/heddle-mesh/heddle/test/cluster"
	"github.com/heddle-mesh/heddle/test/images"
)

// env is the cluster that all tests use.
var env environment

type environment struct {
	kubeconfig string
	kubectl    string // path
	config     *rest.Config
	client     kubernetes.Interface
	used       atomic.Int64 // by how many tests
	installed  installed
}

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

// runAll gives the exit code.
func runAll(m *testing.M) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	end, err := env.open(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: no cluster to test on:", err)
		return 1
	}
	interrupted := make(chan struct{})
	stopWatching := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		fmt.Fprintln(os.Stderr, "e2e: interrupted; removing the cluster")
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
		}
		os.Exit(130)
	})
	code = m.Run()
	if err := env.leave(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	if !stopWatching() {
		<-interrupted // which ends the process
	}
	if code == 0 && env.used.Load() == 0 {
		fmt.Fprintln(os.Stderr, "e2e: no test has used the cluster, so nothing was shown")
		code = 1
	}
	if err := end(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	return code
}

// open finds the cluster that KUBECONFIG names, or starts one.
func (e *environment) open(ctx context.Context) (end func() error, err error) {
	end = func() error { return nil }
	if e.kubeconfig = os.Getenv("KUBECONFIG"); e.kubeconfig != "" {
		if e.kubectl, err = exec.LookPath("kubectl"); err != nil {
			return nil, fmt.Errorf("find kubectl, which the tests use: %w", err)
		}
	} else if end, err = e.start(ctx); err != nil {
		return nil, err
	}
	e.config, err = clientcmd.BuildConfigFromFlags("", e.kubeconfig)
	if err == nil {
		e.client, err = kubernetes.NewForConfig(e.config)
	}
	if err == nil {
		_, err = e.client.Discovery().ServerVersion()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reach the cluster of %s: %w", e.kubeconfig, err), end())
	}
	return end, nil
}

// start starts a cluster of our own.
func (e *environment) start(ctx context.Context) (end func() error, err error) {
	if err := cluster.CheckHost(); err != nil {
		return nil, err
	}
	tars, err := images.Build(ctx, images.Options{Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	c, err := cluster.Start(ctx, cluster.Options{Name: "e2e", Images: tars, Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	e.kubeconfig, e.kubectl = c.Kubeconfig(), c.KubectlPath()
	return func() error { return c.Stop(context.Background()) }, nil
}
