package controlplane

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
	"github.com/heddle-mesh/heddle/xds"
)

// agentKey is where the node metadata of a sidecar says which version its agent has. It is shown and decides nothing.
const agentKey = "dev.heddle.agent"

// arrival is what a sidecar brought along with its newest stream, for people to see.
type arrival struct {
	since        time.Time
	certificate  api.Certificate
	envoy, agent string // versions, as the sidecar says
}

func arrivalOf(ctx context.Context, node *corev3.Node) arrival {
	a := arrival{since: time.Now().UTC(), agent: node.GetMetadata().GetFields()[agentKey].GetStringValue()}
	if v := node.GetUserAgentBuildVersion().GetVersion(); v != nil {
		a.envoy = fmt.Sprintf("%d.%d.%d", v.MajorNumber, v.MinorNumber, v.Patch)
	}
	if p, ok := grpcpeer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
			leaf := info.State.PeerCertificates[0]
			a.certificate = api.Certificate{NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC()}
		}
	}
	return a
}

// Health says how this process stands (api.Mesh).
func (p *Plane) Health(ctx context.Context) (api.Health, error) {
	h := api.Health{Ready: p.ready.Load(), Source: true}
	if p.options.Status != nil {
		s := p.options.Status()
		h.Source, h.Since, h.Reason = s.Connected, s.Since.UTC(), s.Reason
	}
	err := p.ask(ctx, func() { h.Proxies = len(p.publisher.proxies) })
	return h, err
}

// ask has the loop run f, once it runs.
func (p *Plane) ask(ctx context.Context, f func()) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := p.call(ctx, f); err != nil {
		return fmt.Errorf("ask the control plane's loop: %w", err)
	}
	return nil
}

// Proxies lists the sidecars that are connected here (api.Mesh).
func (p *Plane) Proxies(ctx context.Context, namespace string) ([]api.Proxy, error) {
	known := map[string]*api.Proxy{}
	err := p.ask(ctx, func() {
		for key, px := range p.publisher.proxies {
			if namespace == "" || key.Namespace == namespace {
				known[key.String()] = px.told(p.publisher.state.Pod(key))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	list := []api.Proxy{}
	for _, s := range p.store.Streams(func(proxy string) bool { return known[proxy] != nil }) {
		px := known[s.Proxy]
		if px.Types == nil { // else it has two streams: the new one and one that is about to end
			list = append(list, *px)
		}
		px.Types, px.Synced = typesOf(s)
		list[len(list)-1] = *px
	}
	return list, nil
}

// told is what there is to tell of a sidecar; pod is nil if its pod is not known any more.
func (px *proxy) told(pod *model.Pod) *api.Proxy {
	var labels map[string]string
	if pod != nil && len(pod.Labels) > 0 {
		labels = pod.Labels.Map()
	}
	return &api.Proxy{
		Labels:    labels,
		Namespace: px.pod.Namespace, Pod: px.pod.Name, UID: px.uid, Account: px.account, Node: px.at.Node,
		Envoy: px.arrived.envoy, Agent: px.arrived.agent, Since: px.arrived.since, Certificate: px.arrived.certificate,
	}
}

func typesOf(s xds.StreamState) (types []api.Type, synced bool) {
	types, synced = []api.Type{}, true
	for _, t := range s.Types {
		told := api.Type{Type: t.Type.String(), Resources: t.Resources, Version: t.Version, Synced: t.Synced}
		for _, r := range t.Refused {
			told.Refused = append(told.Refused, api.Nack{Resource: r.Name, Version: r.Version, Reason: r.Reason})
		}
		types, synced = append(types, told), synced && t.Synced
	}
	return types, synced && len(types) > 0
}

// Config gives what a pod's sidecar is served, or would be if it were connected (api.Mesh).
func (p *Plane) Config(ctx context.Context, namespace, pod string) (api.Config, error) {
	key := model.Key{Namespace: namespace, Name: pod}
	c := api.Config{Namespace: namespace, Pod: pod, Resources: []api.Resource{}}
	var served []*xds.Resource
	var err error
	if askErr := p.ask(ctx, func() { served, c.Connected, err = p.publisher.view(key) }); askErr != nil {
		return c, askErr
	}
	if err != nil {
		return c, err
	}
	for _, r := range served {
		m, err := r.Message()
		if err != nil {
			return c, err
		}
		body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			return c, fmt.Errorf("write %s as JSON: %w", r.Ref, err)
		}
		c.Resources = append(c.Resources, api.Resource{Type: r.Type.String(), Name: r.Name, Version: r.Version, Body: body})
	}
	return c, nil
}

// view gives what a pod's sidecar sees, by type and name.
func (p *publisher) view(key model.Key) (served []*xds.Resource, connected bool, err error) {
	pod := p.state.Pod(key)
	if pod == nil {
		return nil, false, &api.Refusal{Status: http.StatusNotFound, Code: api.NoPod, Message: fmt.Sprintf("there is no pod %s; kubectl get pods -n %s lists those that there are", key, key.Namespace)}
	}
	if p.proxies[key] != nil {
		if served, ok := p.store.Served(key.String()); ok {
			return served, true, nil
		}
	}
	workload := p.state.Workload(key)
	if workload == nil {
		return nil, false, &api.Refusal{Status: http.StatusNotFound, Code: api.NoPod, Message: fmt.Sprintf("pod %s has no sidecar: label its namespace heddle.dev/inject=enabled and start it anew", key)}
	}
	at, _ := p.state.Location(key)
	shared := p.store.View(stack(&proxy{peer: peer{pod: key}, at: at}))
	own := map[xds.Ref]*xds.Resource{}
	for _, n := range messages(translator.Inbound(workload, translator.Capture{})) {
		r, err := xds.NewResource(n.name, n.message, n.options...)
		if err != nil {
			return nil, false, err
		}
		own[r.Ref] = r
	}
	for _, r := range shared {
		if own[r.Ref] == nil {
			own[r.Ref] = r
		}
	}
	for _, r := range own {
		served = append(served, r)
	}
	slices.SortFunc(served, func(a, b *xds.Resource) int {
		if a.Type != b.Type {
			return int(a.Type) - int(b.Type)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return served, false, nil
}
