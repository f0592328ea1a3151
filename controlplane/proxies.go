package controlplane

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
	"github.com/heddle-mesh/heddle/xds"
)

// captureKey is where the node metadata of a sidecar without redirection says what it binds.
const captureKey = "dev.heddle.capture"

// proxy is a connected sidecar.
type proxy struct {
	pod     model.Key
	at      model.Location
	capture translator.Capture
	streams int
}

// connect tells the server what a new stream sees. It runs on the stream's goroutine and has the loop do the work.
func (p *Plane) connect(ctx context.Context, node *corev3.Node) (xds.Session, error) {
	pod, capture, err := p.identify(ctx, node)
	if err != nil {
		return xds.Session{}, err
	}
	var layers []xds.Layer
	if callErr := p.call(ctx, func() { layers, err = p.publisher.attach(pod, capture) }); callErr != nil {
		return xds.Session{}, callErr
	}
	if err != nil {
		return xds.Session{}, err
	}
	return xds.Session{Layers: layers, Close: func() { p.post(func() { p.publisher.detach(pod) }) }}, nil
}

// identify says whose node it is and how traffic gets to it. It waits for the first full listing: until then no pod is
// known.
func (p *Plane) identify(ctx context.Context, node *corev3.Node) (pod model.Key, capture translator.Capture, err error) {
	if pod, err = podOf(node); err != nil {
		return pod, capture, err
	}
	if p.options.Unredirected {
		if capture, err = captureOf(node); err != nil {
			return pod, capture, err
		}
	}
	select {
	case <-p.store.Synced():
		return pod, capture, nil
	case <-ctx.Done():
		return pod, capture, ctx.Err()
	}
}

// podOf reads the node id namespace/pod.
func podOf(node *corev3.Node) (model.Key, error) {
	pod, ok := podNamed(node.GetId())
	if !ok {
		return model.Key{}, status.Errorf(codes.InvalidArgument, "node id %q: want namespace/pod", node.GetId())
	}
	return pod, nil
}

func podNamed(id string) (model.Key, bool) {
	namespace, name, ok := strings.Cut(id, "/")
	return model.Key{Namespace: namespace, Name: name}, ok && namespace != "" && name != "" && !strings.Contains(name, "/")
}

// captureOf reads what a sidecar without redirection binds; the zero Capture if it does not say.
func captureOf(node *corev3.Node) (translator.Capture, error) {
	m := node.GetMetadata().GetFields()[captureKey].GetStructValue().GetFields()
	if m == nil {
		return translator.Capture{}, nil
	}
	bind, err := netip.ParsePrefix(m["bind"].GetStringValue())
	if err != nil || !bind.Addr().Is4() || bind.Bits() != 16 || !bind.Addr().IsLoopback() {
		return translator.Capture{}, status.Errorf(codes.InvalidArgument, "node metadata %s.bind %q: want a /16 of loopback addresses", captureKey, m["bind"].GetStringValue())
	}
	app, err := netip.ParseAddr(m["app"].GetStringValue())
	if err != nil || !app.IsLoopback() {
		return translator.Capture{}, status.Errorf(codes.InvalidArgument, "node metadata %s.app %q: want a loopback address", captureKey, m["app"].GetStringValue())
	}
	return translator.Capture{Bind: bind.Masked(), App: app}, nil
}

// attach counts a stream of a pod's sidecar in, and publishes what only it sees if it is the first.
func (p *publisher) attach(pod model.Key, capture translator.Capture) ([]xds.Layer, error) {
	at, known := p.state.Location(pod)
	if !known {
		return nil, status.Errorf(codes.NotFound, "pod %s is not known (yet): the sidecar will ask again", pod)
	}
	px := p.proxies[pod]
	if px != nil && px.capture != capture {
		return nil, status.Error(codes.InvalidArgument, fmt.Sprintf("pod %s is connected with other capture metadata", pod))
	}
	if px == nil {
		px = &proxy{pod: pod, at: at, capture: capture}
		p.proxies[pod] = px
		p.arrive(px)
	}
	px.streams++
	return stack(px.pod, px.at, px.capture), nil
}

// arrive publishes a sidecar's own layer, and its zone's and node's if it is the first there.
func (p *publisher) arrive(px *proxy) {
	p.occupy(px.at)
	p.inbound(px)
	if !px.capture.Redirected() {
		for _, k := range p.state.Services() {
			p.boundListeners(px, k)
		}
	}
	p.flush()
}

// detach counts a stream out, and takes the sidecar's own resources away with the last.
func (p *publisher) detach(pod model.Key) {
	px := p.proxies[pod]
	if px == nil {
		return
	}
	if px.streams--; px.streams > 0 {
		return
	}
	delete(p.proxies, pod)
	p.drop(podLayer(pod))
	p.vacate(px.at)
	p.flush()
}

// occupy publishes what only the callers at a place see, if there were none.
func (p *publisher) occupy(at model.Location) {
	for _, at := range places(at) {
		p.locations[at]++
		if p.locations[at] == 1 {
			for _, k := range p.state.Services() {
				p.endpointsNear(p.state.Endpoints(k), k, at)
			}
		}
	}
}

// vacate takes it away, if there are none any more.
func (p *publisher) vacate(at model.Location) {
	for _, at := range places(at) {
		if p.locations[at]--; p.locations[at] == 0 {
			delete(p.locations, at)
			p.drop(placeLayer(at))
		}
	}
}

// move has a sidecar follow its pod's node to another zone: the labels of a node may come later than its pods. Its stream
// sees what it saw at its start, so it ends, and the sidecar comes back.
func (p *publisher) move(px *proxy) {
	at, known := p.state.Location(px.pod)
	if !known || at == px.at {
		return
	}
	p.occupy(at)
	p.vacate(px.at)
	px.at = at
	p.sendAway(px.pod.String())
}

// places are the locations that a proxy may have endpoints of its own for: its zone, and its node.
func places(at model.Location) []model.Location {
	var out []model.Location
	if at.Zone != "" {
		out = append(out, model.Location{Region: at.Region, Zone: at.Zone})
	}
	if at.Node != "" {
		out = append(out, at)
	}
	return out
}

func placeLayer(at model.Location) xds.Layer {
	if at.Node != "" {
		return nodeLayer(at)
	}
	return zoneLayer(at)
}
