package controlplane

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/heddle-mesh/heddle/controlplane/api"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/xds"
)

// envoy is a node as Envoy introduces itself, with what our agent adds.
func envoy(id string) *corev3.Node {
	return &corev3.Node{
		Id: id, UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
			Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40, Patch: 2},
		}},
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{agentKey: structpb.NewStringValue("v1")}},
	}
}

// answers acknowledges a response, or refuses it for a reason.
func answers(t *testing.T, stream adsStream, r *discoveryv3.DeltaDiscoveryResponse, reason string) {
	t.Helper()
	request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}
	if reason != "" {
		request.ErrorDetail = &statuspb.Status{Code: 13, Message: reason}
	}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
}

func TestASidecarIsToldOfWithWhatItHasConfirmedAndRefused(t *testing.T) {
	d := newDoor(t)
	source := make(told, 1)
	p, end := started(t, Options{Source: source, Door: d.Door})
	source <- benchFacts(1)
	pod := benchPod(0, 0)
	pod.Labels = model.LabelsOf(map[string]string{"app": "web"})
	source <- []model.Event{{Pod: pod}}
	stream := d.ads(peerFor(pod))
	_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: envoy(pod.Key.String()), TypeUrl: xds.Cluster.URL()})
	first, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	proxies := func(namespace string) []api.Proxy {
		t.Helper()
		list, err := p.Proxies(t.Context(), namespace)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	list := proxies("bench")
	if len(list) != 1 {
		t.Fatalf("told of %d sidecars", len(list))
	}
	leaf := list[0].Certificate
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life <= 0 {
		t.Errorf("its certificate lasts %v", life)
	}
	n := len(first.Resources)
	want := api.Proxy{
		Namespace: "bench", Pod: pod.Key.Name, UID: pod.UID, Account: "default", Node: "n0", Envoy: "1.40.2", Agent: "v1",
		Labels: map[string]string{"app": "web"},
		Types:  []api.Type{{Type: "cluster", Resources: n}},
	}
	given := cmpopts.IgnoreFields(api.Proxy{}, "Since", "Certificate")
	version := cmpopts.IgnoreFields(api.Type{}, "Version")
	if diff := cmp.Diff(want, list[0], given, version); diff != "" {
		t.Errorf("before it has answered (-want +got):\n%s", diff)
	}
	answers(t, stream, first, "")
	wait(t, "it to be synced", func() bool { return proxies("")[0].Synced })
	if got := proxies("other"); len(got) != 0 {
		t.Errorf("another namespace has %v", got)
	}

	changed := benchService(0, "")
	changed.Ports[0].Protocol = model.TCP
	source <- []model.Event{{Service: changed}}
	second, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	name := second.Resources[0].Name
	answers(t, stream, second, "Error adding/updating cluster(s) "+name+": no such filter")
	wait(t, "the refusal", func() bool { return len(proxies("")[0].Types[0].Refused) == 1 })
	if got := proxies("")[0].Types[0].Refused[0]; got.Resource != name || !strings.HasSuffix(got.Reason, "no such filter") {
		t.Errorf("it is told to have refused %+v", got)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// byName is a configuration without what differs from time to time.
func byName(c api.Config) map[string]string {
	all := map[string]string{}
	for _, r := range c.Resources {
		all[r.Type+" "+r.Name] = r.Version
	}
	return all
}

func TestWhatAPodWouldBeServedIsWhatItIsServed(t *testing.T) {
	d := newDoor(t)
	source := make(told, 1)
	p, end := started(t, Options{Source: source, Door: d.Door, TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local")})
	source <- benchFacts(3)
	wait(t, "the first listing", p.ready.Load)
	pod := benchPod(0, 0)
	config := func() api.Config {
		t.Helper()
		c, err := p.Config(t.Context(), pod.Key.Namespace, pod.Key.Name)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	offline, err := Translate(t.Context(), Options{Source: listed(benchFacts(3)), TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local")}, pod.Key.Namespace, pod.Key.Name)
	if err != nil {
		t.Fatal(err)
	}
	before := config()
	stream := d.ads(peerFor(pod))
	for _, typ := range []xds.Type{xds.Cluster, xds.Listener} {
		_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: envoy(pod.Key.String()), TypeUrl: typ.URL()})
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		answers(t, stream, r, "")
	}
	live := config()
	if before.Connected || offline.Connected || !live.Connected {
		t.Errorf("connected: before %v, offline %v, live %v", before.Connected, offline.Connected, live.Connected)
	}
	if diff := cmp.Diff(byName(before), byName(offline)); diff != "" {
		t.Errorf("the control plane and a translation of the same facts differ (-plane +offline):\n%s", diff)
	}
	some := byName(before)
	for name, version := range byName(live) {
		if some[name] != version {
			t.Errorf("%s is served as %s and would be as %q", name, version, some[name])
		}
	}
	if len(byName(live)) == 0 || !strings.Contains(string(live.Resources[0].Body), `"name"`) {
		t.Errorf("served are %d resources", len(live.Resources))
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// listed is a source that says everything at once.
type listed []model.Event

func (l listed) Run(ctx context.Context, out func([]model.Event)) error {
	out(l)
	<-ctx.Done()
	return nil
}

func TestOfAPodThatHasNoSidecarNothingIsServed(t *testing.T) {
	td := spiffeid.RequireTrustDomainFromString("cluster.local")
	bare := benchPod(0, 0)
	bare.Meshed = false
	facts := listed{{Pod: bare}, {Synced: true}}
	for name, want := range map[string]string{
		bare.Key.Name: "has no sidecar: label its namespace heddle.dev/inject=enabled",
		"none":        "there is no pod bench/none; kubectl get pods -n bench lists",
	} {
		_, err := Translate(t.Context(), Options{Source: facts, TrustDomain: td}, "bench", name)
		refusal, ok := errors.AsType[*api.Refusal](err)
		if !ok || refusal.Status != http.StatusNotFound || !strings.Contains(refusal.Message, want) {
			t.Errorf("pod %s: %v; want %q", name, err, want)
		}
	}
}

func TestHealthSaysWhetherTheSourceAnswers(t *testing.T) {
	d := newDoor(t)
	source := make(told, 1)
	away := kube.Status{Reason: "connection refused"}
	p, end := started(t, Options{Source: source, Door: d.Door, Status: func() kube.Status { return away }})
	before, err := p.Health(t.Context())
	if err != nil || before.Ready || before.Source || before.Reason != "connection refused" {
		t.Errorf("before the first listing: %+v, %v", before, err)
	}
	source <- benchFacts(1)
	wait(t, "the first listing", p.ready.Load)
	if after, err := p.Health(t.Context()); err != nil || !after.Ready {
		t.Errorf("after it: %+v, %v", after, err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// What the socket of whoever runs a control plane tells needs no token.
func TestTheOperatorsSocketTellsOfSidecarsToo(t *testing.T) {
	d := newDoor(t)
	source := make(told, 1)
	p, end := started(t, Options{Source: source, Door: d.Door})
	source <- benchFacts(1)
	wait(t, "the first listing", p.ready.Load)
	h := NewOperator(p, nil).Handler()
	pod := benchPod(0, 0).Key
	for path, want := range map[string]string{
		api.VersionPath: `"version"`, api.HealthPath: `"ready":true`, api.ProxiesPath: "[]",
		api.ConfigPath(pod.Namespace, pod.Name): `"connected":false`, api.ConfigPath("bench", "none"): `"code":"no-pod"`,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %.300s", path, w.Code, w.Body)
		}
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}
