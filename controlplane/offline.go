package controlplane

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/mesh"
)

// Translate reads a source until its first listing is complete, and gives what a pod's sidecar would be served then. Nobody
// is served by it. Of the options Source, Namespace, TrustDomain and Log count.
func Translate(ctx context.Context, o Options, namespace, pod string) (api.Config, error) {
	if o.TrustDomain.IsZero() {
		return api.Config{}, fmt.Errorf("translate what pod %s/%s is served: Options.TrustDomain is not set", namespace, pod)
	}
	p := New(o)
	p.publisher = newPublisher(mesh.New(mesh.Options{Namespace: p.options.Namespace, TrustDomain: o.TrustDomain.Name()}), p.store, p.metrics, p.log)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return p.loop(running) })
	group.Go(func() error { return p.runSource(running) })
	var config api.Config
	group.Go(func() error {
		defer cancel()
		select {
		case <-p.store.Synced():
		case <-running.Done():
			return context.Cause(running)
		}
		var err error
		config, err = p.Config(running, namespace, pod)
		return err
	})
	return config, group.Wait()
}
