package reach

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/controlplane/operator"
)

// Asker gets what is at a path of the API: one replica, or an operator's socket ([Socket]).
type Asker interface {
	Get(ctx context.Context, path string, out any) error
}

// Socket asks the control plane behind an operator's socket.
type Socket struct{ operator.Client }

// Get asks. It fails with an *operator.Problem if the control plane says no.
func (s Socket) Get(ctx context.Context, path string, out any) error {
	return s.Call(ctx, http.MethodGet, path, nil, out)
}

// Proxies lists the sidecars of a namespace, or all if it is empty. Each replica knows those that are connected to it; one
// that has moved meanwhile is listed where it went.
func Proxies(ctx context.Context, replicas []Asker, namespace string) ([]api.Proxy, error) {
	newest := map[string]api.Proxy{}
	for _, r := range replicas {
		var some []api.Proxy
		if err := r.Get(ctx, api.ProxiesPath+"?namespace="+url.QueryEscape(namespace), &some); err != nil {
			return nil, err
		}
		for _, p := range some {
			if s, ok := r.(fmt.Stringer); ok {
				p.Replica = s.String()
			}
			if known, ok := newest[p.Name()]; !ok || p.Since.After(known.Since) {
				newest[p.Name()] = p
			}
		}
	}
	all := make([]api.Proxy, 0, len(newest))
	for _, p := range newest {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b api.Proxy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod))
	})
	return all, nil
}

// Config gives what a pod's sidecar is served, by the replica that it is connected to, or else by any.
func Config(ctx context.Context, replicas []Asker, namespace, pod string) (api.Config, error) {
	var best api.Config
	var failed error
	found := false
	for _, r := range replicas {
		var c api.Config
		if err := r.Get(ctx, api.ConfigPath(url.PathEscape(namespace), url.PathEscape(pod)), &c); err != nil {
			failed = err
			continue
		}
		if best, found = c, true; c.Connected {
			break
		}
	}
	if !found {
		return best, failed
	}
	return best, nil
}
