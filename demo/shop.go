package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/model"
)

// pod is a pod of the folder, with where its parts are on this machine.
type pod struct {
	*model.Pod
	app     string // label app: which of the applications it runs
	port    uint16 // that the application listens on; 0 if nobody calls it
	capture bootstrap.Capture
}

// workload names what a pod belongs to.
func (p pod) workload() string { return p.Key.Namespace + "/" + p.app }

// firstNetwork is the second byte of the loopback network of the first sidecar: 127.130.0.0/16. Others follow. Pods
// have addresses of their own choice, and in these networks nobody else is likely to listen.
const firstNetwork = 130

// placePods says where each pod's sidecar offers Services and where its application listens: in a loopback network of
// its own, at the same port numbers as in a cluster.
func placePods(facts []*model.Pod) ([]pod, error) {
	facts = slices.SortedFunc(slices.Values(facts), func(a, b *model.Pod) int { return a.Key.Compare(b.Key) })
	var pods []pod
	var errs []error
	for _, f := range facts {
		app, _ := f.Labels.Get("app")
		switch {
		case !f.Meshed:
			continue
		case len(f.Addresses) != 1 || !f.Addresses[0].IsLoopback():
			errs = append(errs, fmt.Errorf("pod %s: in the demo a pod has one loopback address, such as 127.77.0.1", f.Key))
			continue
		case firstNetwork+len(pods) > 254:
			return nil, fmt.Errorf("the folder has more pods than the %d that the demo can place", 254-firstNetwork)
		}
		network := byte(firstNetwork + len(pods))
		p := pod{Pod: f, app: app, capture: bootstrap.Capture{
			Bind: netip.PrefixFrom(netip.AddrFrom4([4]byte{127, network, 0, 0}), 16),
			App:  netip.AddrFrom4([4]byte{127, network, 255, 254}),
		}}
		if len(f.Ports) > 0 {
			p.port = f.Ports[0].Number
		}
		pods = append(pods, p)
	}
	if len(pods) == 0 {
		errs = append(errs, errors.New("the folder has no pod with the label heddle.dev/sidecar: \"true\"; see examples/demo for what a demo is made of"))
	}
	return pods, errors.Join(errs...)
}

// workloads names nodes by what they belong to.
func workloads(pods []pod) func(node string) string {
	names := map[string]string{}
	for _, p := range pods {
		names[p.Key.String()] = p.workload()
	}
	return func(node string) string { return cmp.Or(names[node], node) }
}

// directory finds Services by name, as DNS does in a cluster.
type directory interface {
	// lookup gives the Service's cluster address; false if there is no such Service.
	lookup(key model.Key) (netip.Addr, bool)
}

// dialer connects an application in a pod to Services through the pod's own sidecar. In a cluster DNS and redirection
// do this; here the host service:port becomes the address that the sidecar offers for it.
func (p pod) dialer(names directory) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("call %s: %w", address, err)
		}
		ip, ok := names.lookup(model.Key{Namespace: p.Key.Namespace, Name: host})
		if !ok {
			return nil, fmt.Errorf("call %s: no such Service", host)
		}
		at := offeredAt(p.capture.Bind, ip)
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(at.String(), port))
	}
}

// offeredAt is the address at which a sidecar offers a Service in its own network: with the Service's last two bytes.
func offeredAt(network netip.Prefix, service netip.Addr) netip.Addr {
	n, s := network.Addr().As4(), service.As4()
	return netip.AddrFrom4([4]byte{n[0], n[1], s[2], s[3]})
}
