//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
)

// town is a namespace of applications that know nothing of the mesh. Its subtests share the pods.
type town struct{ *namespace }

func TestApplicationsAreReachedAsWithoutTheMesh(t *testing.T) {
	t.Parallel()
	env.mesh(t)
	w := town{env.namespace(t)}
	w.applyTown("testdata/town.yaml")
	v4, _ := w.addresses("store-0")
	w.applyText(byHand, "ADDRESS", v4)
	// The Services come to the node a moment after their pods are ready.
	for _, url := range []string{"http://front", "http://by-hand", "http://by-address", "http://binds:8083"} {
		w.eventually(func() error { _, err := w.curl("client", url); return err })
	}
	for name, test := range map[string]func(town){
		"each pod of a StatefulSet has its name, and mutual TLS":          town.statefulSet,
		"a Service without a selector leads where its endpoints say":      town.byHand,
		"an ExternalName leads to the Service that it names":              town.externalName,
		"a call to an address of a headless Service has mutual TLS":       town.podAddress,
		"calls over IPv6 have mutual TLS":                                 town.ipv6,
		"names are looked up over UDP and TCP":                            town.names,
		"a server that speaks first is heard":                             town.serverFirst,
		"Redis works":                                                     town.redis,
		"hosts outside the cluster are reached":                           town.outside,
		"what an application binds to counts as without the mesh":         town.binds,
		"two containers of a pod talk over localhost":                     town.localhost,
		"an application calls its own Service":                            town.hairpin,
		"UDP comes from the pod itself":                                   town.udp,
		"the sidecar's ports refuse other pods":                           town.ports,
		"pods in and outside of the mesh call each other where it may be": town.permissive,
		"all calls are answered, of a hundred from each kind of caller":   town.hundred,
	} {
		t.Run(name, func(t *testing.T) { test(town{&namespace{t, w.name}}) })
	}
}

const byHand = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand-1, labels: {kubernetes.io/service-name: by-hand}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ["ADDRESS"], conditions: {ready: true}, targetRef: {kind: Pod, namespace: NAMESPACE, name: store-0}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-address-1, labels: {kubernetes.io/service-name: by-address}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ["ADDRESS"], conditions: {ready: true}}]
`

// must reports what went wrong.
func (w town) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Error(err)
	}
}

func (w town) statefulSet() {
	for _, pod := range []string{"store-0", "store-1"} {
		w.must(w.askAs(w.identity(), "client", "http://"+pod+".store:8080"))
	}
	w.must(w.askAs(w.identity(), "client", "http://store:8080"))
	w.must(w.askAs(w.identity(), "store-0", "http://store-1.store:8080"))
}

// byHand: of an address alone the mesh does not know whose it is.
func (w town) byHand() {
	w.must(w.askAs("", "client", "http://by-address"))
	w.must(w.askAs(w.identity(), "client", "http://by-hand"))
}

func (w town) externalName() { w.must(w.askAs(w.identity(), "client", "http://alias")) }

func (w town) podAddress() {
	v4, _ := w.addresses("store-1")
	w.must(w.askAs(w.identity(), "client", "http://"+net.JoinHostPort(v4, "8080")))
}

func (w town) ipv6() {
	_, v6 := w.addresses("store-1")
	if v6 == "" {
		w.t.Fatal("the cluster has no IPv6: use one with both families")
	}
	w.must(w.askAs(w.identity(), "client", "http://"+net.JoinHostPort(v6, "8080")))
	w.must(w.askAs(w.identity(), "client", "http://front6"))
	w.must(w.askAs("", "plain", "http://front6"))
}

func (w town) names() {
	for _, protocol := range []string{"udp", "tcp"} {
		got := w.kubectl("exec", "client", "-c", "beside", "--", "/testapp", "resolve",
			"--name=front."+w.name+".svc.cluster.local.", "--protocol="+protocol)
		if want := w.kubectl("get", "service", "front", "-o", "jsonpath={.spec.clusterIP}"); !strings.Contains(got, `"`+want+`"`) {
			w.t.Errorf("over %s the name is %s, want %s", protocol, got, want)
		}
	}
}

// said is a script that prints the first line that a server says.
func said(host, port string) string {
	return fmt.Sprintf("exec 3<>/dev/tcp/%s/%s && timeout 10 head -n1 <&3", host, port)
}

func (w town) serverFirst() {
	for _, pod := range []string{"client", "plain"} {
		for _, port := range []string{"9000", "9001"} {
			if got, err := w.bash(pod, said("first", port)); err != nil || got != "welcome\n" {
				w.t.Errorf("%s hears at port %s: %q, %v", pod, port, got, err)
			}
		}
	}
}

func (w town) redis() {
	const script = `exec 3<>/dev/tcp/first/6379 && printf 'SET k v\r\nGET k\r\nQUIT\r\n' >&3 && timeout 10 cat <&3`
	for _, pod := range []string{"client", "plain"} {
		if got, err := w.bash(pod, script); err != nil || got != "+OK\r\n$1\r\nv\r\n+OK\r\n" {
			w.t.Errorf("%s: Redis says %q, %v", pod, got, err)
		}
	}
	if got, err := w.try("exec", "first", "-c", "redis", "--", "redis-cli", "-h", "first", "ping"); err != nil || got != "PONG\n" {
		w.t.Errorf("redis-cli says %q, %v", got, err)
	}
}

// outside is an HTTP server on the node's network, by address and by a name that only the caller knows, and the API server
// with its own TLS.
func (w town) outside() {
	v4, _ := w.addresses("outside")
	w.must(w.askAs("", "client", "http://"+v4+":18099"))
	s, err := w.ask("client", "--resolve", "shop.example:18099:"+v4, "http://shop.example:18099")
	if err != nil || s.Host != "shop.example:18099" {
		w.t.Errorf("the host by its name: %+v, %v", s, err)
	}
	for _, server := range []string{"https://kubernetes.default/version", "https://" + w.apiServer() + "/version"} {
		if got, err := w.curl("client", "-k", server); err != nil || !strings.Contains(got, "gitVersion") {
			w.t.Errorf("%s says %q, %v", server, got, err)
		}
	}
}

func (w town) apiServer() string {
	w.t.Helper()
	return strings.TrimSpace(w.kubectl("get", "endpointslices", "-n", "default", "kubernetes", "-o",
		"jsonpath={.endpoints[0].addresses[0]}:{.ports[0].port}"))
}

func (w town) binds() {
	v4, v6 := w.addresses("binds")
	for _, pod := range []string{"client", "plain"} {
		for url, want := range map[string]string{
			"http://binds:8082": "own\n", "http://binds:8083": "all\n",
			"http://" + v4 + ":8082": "own\n", "http://" + net.JoinHostPort(v6, "8083"): "all\n",
		} {
			if got, err := w.curl(pod, url); err != nil || got != want {
				w.t.Errorf("%s from %s: %q, %v", url, pod, got, err)
			}
		}
		for _, url := range []string{"http://binds:8081", "http://" + v4 + ":8081", "http://" + net.JoinHostPort(v6, "8082")} {
			if got, err := w.curl(pod, url); err == nil {
				w.t.Errorf("%s answers %s, though it does not listen there: %q", url, pod, got)
			}
		}
	}
	for url, want := range map[string]string{
		"http://127.0.0.1:8081": "loopback\n", "http://" + v4 + ":8082": "own\n", "http://[::1]:8083": "all\n", "http://127.0.0.1:8083": "all\n",
	} {
		if got, err := w.curl("binds", url); err != nil || got != want {
			w.t.Errorf("%s in the pod itself: %q, %v", url, got, err)
		}
	}
	if got, err := w.curl("binds", "http://127.0.0.1:8082"); err == nil {
		w.t.Errorf("127.0.0.1:8082 answers in the pod itself, though nobody listens there: %q", got)
	}
}

func (w town) localhost() {
	for _, url := range []string{"http://127.0.0.1:8099", "http://localhost:8099", "http://[::1]:8099"} {
		if got, err := w.curl("client", url); err != nil || got != "beside\n" {
			w.t.Errorf("%s: %q, %v", url, got, err)
		}
	}
}

// hairpin: with one pod of the Service asked for itself, and the Service with two.
func (w town) hairpin() {
	v4, _ := w.addresses("store-0")
	for _, url := range []string{"http://by-hand", "http://" + v4 + ":8080", "http://store-0.store:8080"} {
		if _, err := w.ask("store-0", url); err != nil {
			w.t.Errorf("%s asked by its own pod: %v", url, err)
		}
	}
	for range 6 {
		if _, err := w.ask("store-0", "http://front"); err != nil {
			w.t.Error(err)
		}
	}
}

func (w town) udp() {
	v4, _ := w.addresses("client")
	got, err := w.bash("client", `exec 3<>/dev/udp/first/9002 && printf hi >&3 && timeout 10 head -c `+fmt.Sprint(len(v4)+4)+` <&3`)
	if want := v4 + ": hi"; err != nil || got != want {
		w.t.Errorf("the UDP server gave back %q, %v; want %q", got, err, want)
	}
}

// ports are closed to other pods: Envoy's own refuse, 15021 closes a connection without a word to whoever does not know the
// path, and so does what nobody listens at. A caller's own sidecar has accepted before, and closes.
func (w town) ports() {
	v4, v6 := w.addresses("first")
	refused, closed := []string{"7"}, []string{"52", "56"} // exit codes of curl
	for _, address := range []string{v4, v6} {
		for _, port := range []string{"15000", "15001", "15006", "15010", "15021"} {
			for _, pod := range []string{"plain", "client"} {
				want := closed
				if pod == "plain" && (port == "15001" || port == "15006") {
					want = refused
				}
				got, err := w.bash(pod, `curl -sS --max-time 20 -o /dev/null -w '%{exitcode}' http://`+net.JoinHostPort(address, port)+`/ 2>/dev/null; true`)
				if err != nil || !slices.Contains(want, got) {
					w.t.Errorf("curl of port %s of %s from %s exits with %s, %v; want one of %v", port, address, pod, got, err, want)
				}
			}
		}
	}
}

func (w town) permissive() {
	w.must(w.askAs("", "plain", "http://front"))
	v4, _ := w.addresses("store-0")
	w.must(w.askAs("", "plain", "http://"+v4+":8080"))
	w.must(w.askAs(w.identity(), "client", "http://front"))
	w.must(w.askAs("", "client", "http://"+w.node()+":18099"))
}

func (w town) node() string { v4, _ := w.addresses("outside"); return v4 }

func (w town) hundred() {
	for _, load := range [][]string{
		{"--url=http://front"}, {"--url=http://front", "--protocol=http2"}, {"--url=http://store:8080"}, {"--url=http://by-hand"},
	} {
		out, err := w.try(append([]string{"exec", "client", "-c", "beside", "--", "/testapp", "load", "--rate=100", "--for=1s"}, load...)...)
		if err != nil || !strings.Contains(out, `"failed":0`) || strings.Contains(out, `"sent":0,`) {
			w.t.Errorf("%v: %s, %v", load, out, err)
		}
	}
}
