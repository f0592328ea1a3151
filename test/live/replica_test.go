package live

import (
	"context"
	"slices"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/xds"
)

// versions is what a control plane would give to the sidecar of p if it had nothing: the version of each resource, by
// type and name.
func (w *world) versions(from setting, p *pod) map[string]string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	conn, err := grpc.NewClient(from.sidecars(), grpc.WithTransportCredentials(credentials.NewTLS(w.proof(p.name))),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	server := bootstrap.Server{Address: from.sidecars(), ID: w.spiffeID(w.System, controlplane.ServerAccount).String()}
	b, err := bootstrap.New(bootstrap.Options{ID: w.id(p), Server: server, SDS: "/sds", Admin: "/admin", Capture: p.capture})
	if err != nil {
		w.t.Fatal(err)
	}
	found := map[string]string{}
	// ask subscribes to names, or to everything, and takes the first answer.
	ask := func(t xds.Type, names ...string) (got []string) {
		request := &discoveryv3.DeltaDiscoveryRequest{Node: b.Node, TypeUrl: t.URL(), ResourceNamesSubscribe: names}
		if err := stream.Send(request); err != nil {
			w.t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			w.t.Fatalf("asked for every %v: %v", t, err)
		}
		if answer.TypeUrl != t.URL() {
			w.t.Fatalf("asked for every %v, it answers with %s", t, answer.TypeUrl)
		}
		for _, r := range answer.Resources {
			found[t.String()+" "+r.Name] = r.Version
			got = append(got, r.Name)
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: t.URL(), ResponseNonce: answer.Nonce}); err != nil {
			w.t.Fatal(err)
		}
		return got
	}
	clusters := ask(xds.Cluster)
	ask(xds.Endpoints, slices.DeleteFunc(clusters, func(name string) bool { return !strings.HasPrefix(name, "ob|") })...)
	ask(xds.Route, ask(xds.Listener)...) // a listener's routes have its name
	return found
}

// kept waits until what is to outlive a restart of a policy holds a version's hash.
func (w *world) kept(hash string) {
	w.t.Helper()
	eventually(w.t, "version "+hash+" is saved", func() bool {
		list, err := w.client.AppsV1().ControllerRevisions(w.Namespace).List(w.t.Context(), everything())
		if err != nil {
			w.t.Fatal(err)
		}
		for i := range list.Items {
			if strings.Contains(string(list.Items[i].Data.Raw), hash) {
				return true
			}
		}
		return false
	})
}

// returned waits until sidecars have taken up with a control plane that was restarted, and have what it has.
func (w *world) returned(pods ...*pod) {
	w.t.Helper()
	from := time.Now()
	for _, p := range pods {
		eventually(w.t, "the sidecar of "+p.name+" is back", func() bool {
			return w.plane.count(w.id(p), xds.Acked, xds.Cluster) > 0 && w.plane.count(w.id(p), xds.Acked, xds.Listener) > 0
		})
	}
	w.t.Logf("sidecars were back after %v", time.Since(from).Round(time.Millisecond))
}
