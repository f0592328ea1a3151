package controlplane

import (
	"context"
	"errors"
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
	peer
	layer   xds.Layer // its own, and of no other pod of this name
	at      model.Location
	capture translator.Capture
	streams int
	arrived arrival // of its newest stream
}

// connect tells the server what a new stream sees. It runs on the stream's goroutine and has the loop do the work.
func (p *Plane) connect(ctx context.Context, node *corev3.Node) (xds.Session, error) {
	who, capture, err := p.identify(ctx, node)
	if err != nil {
		return xds.Session{}, err
	}
	var px *proxy
	var layers []xds.Layer
	arrived := arrivalOf(ctx, node)
	if callErr := p.call(ctx, func() {
		if px, layers, err = p.publisher.attach(who, capture); px != nil {
			px.arrived = arrived
		}
	}); callErr != nil {
		return xds.Session{}, callErr
	}
	if err != nil {
		return xds.Session{}, err
	}
	return xds.Session{
		Proxy: who.pod.String(), Layers: layers,
		Begun: func() error {
			if callErr := p.call(ctx, func() { err = p.publisher.stands(px) }); callErr != nil {
				return callErr
			}
			return err
		},
		Close: func() { p.post(func() { p.publisher.detach(px) }) },
	}, nil
}

// identify says whose stream it is and how traffic gets to that sidecar. It waits for the first full listing: until
// then no pod is known.
func (p *Plane) identify(ctx context.Context, node *corev3.Node) (who peer, capture translator.Capture, err error) {
	if who, err = p.who(ctx, node); err != nil {
		return who, capture, err
	}
	if p.options.Unredirected {
		if capture, err = captureOf(node); err != nil {
			return who, capture, err
		}
	}
	select {
	case <-p.store.Synced():
		return who, capture, nil
	case <-ctx.Done():
		return who, capture, ctx.Err()
	}
}

// who is the peer of a stream. Its certificate says so; a node that calls itself otherwise is a mistake or worse.
func (p *Plane) who(ctx context.Context, node *corev3.Node) (peer, error) {
	who, err := peerOf(ctx)
	switch {
	case err != nil:
		p.metrics.denied(deniedHandshake) // should it ever let one through
	case node.GetId() != who.pod.String():
		p.metrics.denied(deniedNode)
		err = status.Errorf(codes.PermissionDenied, "node id %q: the certificate is that of %s, and so must the node id be", node.GetId(), who.pod)
	}
	return who, err
}

// errNoPod is in the error of [Plane.Pod] for a pod that does not exist.
var errNoPod = errors.New("no pod")

// Pod says what is known of a pod. It waits for the first full listing, and fails if there is no such pod.
func (p *Plane) Pod(ctx context.Context, key model.Key) (pod *model.Pod, err error) {
	select {
	case <-p.store.Synced():
	case <-p.stopped:
		return nil, errStopped
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the first listing: %w", ctx.Err())
	}
	if err := p.call(ctx, func() { pod = p.publisher.state.Pod(key) }); err != nil {
		return nil, err
	}
	if pod == nil {
		return nil, fmt.Errorf("there is %w %s", errNoPod, key)
	}
	return pod, nil
}

// podNamed reads a pod's name, namespace/pod.
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

// admit refuses whom the mesh does not know as what its certificate says.
func (p *publisher) admit(who peer) (*model.Pod, error) {
	pod := p.state.Pod(who.pod)
	if pod == nil {
		p.metrics.denied(deniedUnknownPod)
		return nil, status.Errorf(codes.NotFound, "pod %s is not known (yet): the sidecar will ask again", who.pod)
	}
	if !who.is(pod) {
		p.metrics.denied(deniedPod)
		return nil, status.Errorf(codes.PermissionDenied, "the certificate was made for pod %s with UID %q and account %q, which is no longer so; a new certificate is needed", who.pod, who.uid, who.account)
	}
	return pod, nil
}

// attach counts a stream of a pod's sidecar in, and publishes what only it sees if it is the first.
func (p *publisher) attach(who peer, capture translator.Capture) (*proxy, []xds.Layer, error) {
	pod, err := p.admit(who)
	if err != nil {
		return nil, nil, err
	}
	px := p.proxies[who.pod]
	if px != nil && px.capture != capture {
		return nil, nil, status.Errorf(codes.InvalidArgument, "pod %s is connected with other capture metadata", who.pod)
	}
	if px == nil {
		at, _ := p.state.Location(who.pod)
		p.attached++
		px = &proxy{peer: peer{who.pod, pod.UID, pod.ServiceAccount}, layer: podLayer(who.pod, p.attached), at: at, capture: capture}
		p.proxies[who.pod] = px
		p.arrive(px)
	}
	px.streams++
	return px, stack(px), nil
}

// stands refuses a stream whose pod was replaced between its admission and its beginning: nobody could send it away.
func (p *publisher) stands(px *proxy) error {
	if p.proxies[px.pod] != px {
		return status.Errorf(codes.Unavailable, "pod %s has changed while its sidecar connected; it will ask again", px.pod)
	}
	return nil
}

// review sends away whom the mesh no longer knows as what it was admitted as: its pod is gone, or has been replaced by
// another of its name, or has another account.
func (p *publisher) review(replaced []model.Key) {
	for _, key := range replaced {
		pod := p.state.Pod(key)
		if px := p.proxies[key]; px != nil && (pod == nil || !px.is(pod)) {
			p.part(px)
		}
		p.reviewMeters(key, pod)
		var left []*checker
		for _, c := range p.checkers[key] {
			if pod != nil && c.who.is(pod) {
				left = append(left, c)
			} else {
				close(c.over)
			}
		}
		p.keepCheckers(key, left)
	}
}

// part ends a sidecar's streams, which sees nothing new until they have ended: what it has is enough to drain with. If
// it may come back it is another one.
func (p *publisher) part(px *proxy) {
	delete(p.proxies, px.pod)
	p.sendAway(px.pod.String())
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
func (p *publisher) detach(px *proxy) {
	if px.streams--; px.streams > 0 {
		return
	}
	if p.proxies[px.pod] == px {
		delete(p.proxies, px.pod)
	}
	p.drop(px.layer)
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

// moved has a sidecar follow its pod's node to another zone: the labels of a node may come later than its pods. Its stream
// sees what it saw at its start, so it ends, and the sidecar comes back.
func (p *publisher) moved(px *proxy) bool {
	at, known := p.state.Location(px.pod)
	if !known || at == px.at {
		return false
	}
	p.part(px)
	return true
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
