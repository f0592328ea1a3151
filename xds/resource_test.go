package xds

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestAResourceIsTheSameBytesInBothProtocols(t *testing.T) {
	for ty := range typeCount {
		m := sample(ty, "a", "1")
		r, err := NewResource("a", m)
		if err != nil {
			t.Fatal(err)
		}
		packed := &anypb.Any{TypeUrl: ty.URL()}
		if packed.Value, err = (proto.MarshalOptions{Deterministic: true}).Marshal(m); err != nil {
			t.Fatal(err)
		}
		var inDelta discoveryv3.DeltaDiscoveryResponse
		if err := proto.Unmarshal(r.delta.ReadOnlyData(), &inDelta); err != nil {
			t.Fatal(err)
		}
		wantDelta := &discoveryv3.DeltaDiscoveryResponse{Resources: []*discoveryv3.Resource{{Name: "a", Version: r.Version, Resource: packed}}}
		if diff := cmp.Diff(wantDelta, &inDelta, protocmp.Transform()); diff != "" {
			t.Errorf("delta (-want +got):\n%s", diff)
		}
		var inSotw discoveryv3.DiscoveryResponse
		if err := proto.Unmarshal(r.sotw.ReadOnlyData(), &inSotw); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{packed}}, &inSotw, protocmp.Transform()); diff != "" {
			t.Errorf("state of the world (-want +got):\n%s", diff)
		}
		back, err := r.Message()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, back, protocmp.Transform()); diff != "" {
			t.Errorf("decoded again (-want +got):\n%s", diff)
		}
	}
}

func TestOnlyContentMakesAVersion(t *testing.T) {
	version := func(label string) string {
		r, err := NewResource("a", sample(Cluster, "a", label))
		if err != nil {
			t.Fatal(err)
		}
		return r.Version
	}
	one := version("1")
	if again := version("1"); again != one {
		t.Errorf("equal content has the versions %s and %s", one, again)
	}
	if one == version("2") {
		t.Error("different content has one version")
	}
}

func TestAnAssignmentThatIsMarshalledAlreadyIsTheSameResource(t *testing.T) {
	m := sample(Endpoints, "a", "1")
	want, err := NewResource("a", m)
	if err != nil {
		t.Fatal(err)
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := NewAssignment("a", value)
	if err != nil {
		t.Fatal(err)
	}
	if got.Ref != want.Ref || got.Version != want.Version || !bytes.Equal(got.delta.ReadOnlyData(), want.delta.ReadOnlyData()) {
		t.Errorf("got %v in version %s, want %v in version %s", got.Ref, got.Version, want.Ref, want.Version)
	}
	for _, name := range []string{"", "*"} {
		if _, err := NewAssignment(name, value); err == nil {
			t.Errorf("endpoints have the name %q", name)
		}
	}
}

func TestWhatEnvoyCannotTakeIsNoResource(t *testing.T) {
	cluster := func(change func(*clusterv3.Cluster)) *clusterv3.Cluster {
		c := sample(Cluster, "a", "1").(*clusterv3.Cluster)
		change(c)
		return c
	}
	noPrefix, err := anypb.New(&hcmv3.HttpConnectionManager{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		why     string
		message proto.Message
	}{
		{"are not served", &corev3.Node{Id: "a"}},
		{`names itself "b"`, &routev3.RouteConfiguration{Name: "b"}},
		{"Domains", &routev3.RouteConfiguration{Name: "a", VirtualHosts: []*routev3.VirtualHost{{Name: "v"}}}},
		{"minimum_ring_size 2000 is above maximum_ring_size 1000", cluster(func(c *clusterv3.Cluster) {
			c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
				MinimumRingSize: wrapperspb.UInt64(2000), MaximumRingSize: wrapperspb.UInt64(1000),
			}}
		})},
		{"minimum_ring_size 1024 is above maximum_ring_size 1000", cluster(func(c *clusterv3.Cluster) { // the default
			c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
				MaximumRingSize: wrapperspb.UInt64(1000),
			}}
		})},
		{"table_size 100 is not a prime", cluster(func(c *clusterv3.Cluster) {
			c.LbConfig = &clusterv3.Cluster_MaglevLbConfig_{MaglevLbConfig: &clusterv3.Cluster_MaglevLbConfig{TableSize: wrapperspb.UInt64(100)}}
		})},
		{"StatPrefix", &listenerv3.Listener{Name: "a", FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "http", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: noPrefix},
		}}}}}},
	} {
		if _, err := NewResource("a", c.message); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("got %v; want an error that says %q", err, c.why)
		}
	}
}

func TestNamesThatNobodyHasAreForgotten(t *testing.T) {
	s := NewStore()
	keep, err := NewResource("keep", sample(Cluster, "keep", "1"))
	if err != nil {
		t.Fatal(err)
	}
	s.Publish(Update{Layer: "mesh", Set: []*Resource{keep}})
	for i := range 10_000 {
		name := fmt.Sprint("passing ", i)
		r, err := NewResource(name, sample(Cluster, name, "1"))
		if err != nil {
			t.Fatal(err)
		}
		layer := Layer(name)
		s.Publish(Update{Layer: layer, Set: []*Resource{r}})
		s.Publish(Update{Layer: layer, Remove: []Ref{r.Ref}})
	}
	if n := len(s.tables[Cluster].slots); n > 3000 {
		t.Errorf("%d slots are left of 10,000 names that came and went", n)
	}
	if len(s.layers) != 1 || s.tables[Cluster].byName["keep"] == nil {
		t.Errorf("%d layers are left, and the name that is still there is %v", len(s.layers), s.tables[Cluster].byName["keep"])
	}
}

// FuzzRequestsAreDecodedAsTheyAreButForExtensions compares the server's codec with grpc's on any bytes.
func FuzzRequestsAreDecodedAsTheyAreButForExtensions(f *testing.F) {
	node := &corev3.Node{Id: "p", Extensions: []*corev3.Extension{{Name: "e", TypeUrls: []string{"t"}}}, UserAgentName: "envoy"}
	for _, r := range []*discoveryv3.DeltaDiscoveryRequest{
		{Node: node, TypeUrl: Cluster.URL(), InitialResourceVersions: map[string]string{"a": "1"}},
		{TypeUrl: Endpoints.URL(), ResourceNamesSubscribe: []string{"a", "b"}, ResponseNonce: "7"},
		{Node: &corev3.Node{}},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := &discoveryv3.DeltaDiscoveryRequest{}, &discoveryv3.DeltaDiscoveryRequest{}
		plain := encoding.GetCodecV2(grpcproto.Name)
		data := mem.BufferSlice{mem.SliceBuffer(b)}
		errOurs, errTheirs := codec{plain}.Unmarshal(data, ours), plain.Unmarshal(data, theirs)
		if errTheirs != nil {
			return // it may have been the extensions that were wrong
		}
		if errOurs != nil {
			t.Fatalf("refused what can be read: %v", errOurs)
		}
		if theirs.Node != nil {
			theirs.Node.Extensions = nil
		}
		if ours.Node != nil {
			ours.Node.Extensions = nil // of a second piece of the node, which nobody writes
		}
		if diff := cmp.Diff(theirs, ours, protocmp.Transform()); diff != "" {
			t.Errorf("decoded (-grpc +ours):\n%s", diff)
		}
	})
}
