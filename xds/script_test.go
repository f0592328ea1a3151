package xds

import (
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestConversationsFollowTheProtocol runs testdata/*.txt. Each file is one rule, told as a conversation; the verbs
// are the cases of script.run. Time stands still except in "wait".
func TestConversationsFollowTheProtocol(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				s := newScript(t)
				defer s.close()
				for i, line := range strings.Split(string(text), "\n") {
					if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) == "" {
						continue
					}
					if err := s.run(strings.Fields(line)); err != nil {
						t.Fatalf("%s:%d: %s\n%v", file, i+1, strings.TrimSpace(line), err)
					}
				}
				if err := s.allIdle(); err != nil {
					t.Fatalf("%s: at the end: %v", file, err)
				}
			})
		})
	}
}

// script is one conversation: a store, a server, and proxies played by hand.
type script struct {
	store    *Store
	server   *Server
	layers   map[string][]Layer    // by proxy
	proxies  map[string]*fakeProxy // the newest stream of each
	streams  []*fakeProxy
	current  *fakeProxy
	unsynced bool              // not all was published that is known at the start
	labels   map[string]string // version hash to the label it was published with
	events   events
}

func newScript(t *testing.T) *script {
	t.Helper()
	s := &script{
		store:   NewStore(),
		layers:  map[string][]Layer{},
		proxies: map[string]*fakeProxy{},
		labels:  map[string]string{},
	}
	s.server = NewServer(Options{
		Store: s.store,
		Connect: func(_ context.Context, n *corev3.Node) (Session, error) {
			return Session{Layers: s.layers[n.GetId()]}, nil
		},
		Observer: &s.events,
		MaxNames: 10, MaxStreams: 2, Accepts: 1, Burst: 5, MaxAge: time.Hour, Start: 100 << 10, StartBurst: 300 << 10,
	})
	s.server.rules.nonce = func(n uint64) string { return strconv.FormatUint(n, 10) } // so that scripts can name them
	for _, name := range []string{"l", "other"} {                                     // routes that scripts ask for and do not publish
		if _, err := s.resource(Route, name, "empty"); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *script) close() {
	for _, p := range s.streams {
		p.hangUp()
	}
	synctest.Wait()
}

// run performs one line and lets everything that follows from it happen.
func (s *script) run(words []string) error {
	verb, args := words[0], words[1:]
	defer synctest.Wait()
	switch verb {
	case "connect": // connect NAME [sotw] [layers=MOST,LEAST]: a new stream, on which the next lines speak
		return s.connect(args)
	case "bystander": // bystander NAME: another proxy, which asks for nothing that matters here
		return s.bystander(args[0])
	case "as": // as NAME: the next lines speak on the stream of that proxy
		s.current = s.proxies[args[0]]
		return nil
	case "publish": // publish [LAYER:]TYPE/NAME@LABEL ... -[LAYER:]TYPE/NAME ...: one batch
		return s.publish(args)
	case "wait": // wait DURATION
		d, err := time.ParseDuration(args[0])
		time.Sleep(d)
		return err
	case "event": // event KIND PROXY ...: the oldest event not yet looked at, of the kinds worth telling
		return s.events.want(strings.Join(args, " "), s.label)
	case "unsynced": // not everything known at the start has been published yet
		s.unsynced = true
		return nil
	case "synced":
		s.store.MarkSynced()
		return nil
	case "return": // return NAME: the server has that proxy come back
		s.server.Return(args[0])
		return nil
	case "drain":
		return s.server.Drain(context.Background())
	case "ask", "ack", "nack", "node": // see fakeProxy
		return s.current.speak(verb, args, s.versionOf)
	case "recv": // recv TYPE NAME@LABEL ... -NAME ... [nonce=N]: the oldest response not yet looked at
		return s.current.want(strings.Join(args, " "), s.label)
	case "state": // state TYPE COUNT synced|unsynced [NAME@LABEL ...]: what people are told of the proxy; the names are those it refused
		return s.wantState(args)
	case "idle":
		return s.allIdle()
	case "leave": // the proxy goes
		s.current.hangUp()
		return nil
	case "end": // end CODE: the server ended the stream
		return s.current.wantEnd(args[0])
	case "stall": // the proxy stops reading
		s.current.stall()
		return nil
	case "resume":
		s.current.resume()
		return nil
	default:
		return fmt.Errorf("no such verb: %s", verb)
	}
}

func (s *script) connect(args []string) error {
	name, kind, layers := args[0], delta, []Layer{"mesh"}
	for _, a := range args[1:] {
		switch value, ok := strings.CutPrefix(a, "layers="); {
		case ok:
			layers = nil
			for l := range strings.SplitSeq(value, ",") {
				layers = append(layers, Layer(l))
			}
		case a == "sotw":
			kind = sotw
		default:
			return fmt.Errorf("connect: what is %q?", a)
		}
	}
	s.layers[name] = layers
	if !s.unsynced {
		s.store.MarkSynced()
	}
	s.current = dial(s.server, name, kind)
	s.proxies[name] = s.current
	s.streams = append(s.streams, s.current)
	return nil
}

// bystander connects a proxy without letting the conversation move to it.
func (s *script) bystander(name string) error {
	speaking := s.current
	defer func() { s.current = speaking }()
	err := s.connect([]string{name})
	if err == nil {
		err = s.current.speak("ask", []string{"Nothing"}, s.versionOf)
	}
	synctest.Wait()
	s.current.next(s.label)
	return err
}

func (s *script) publish(args []string) error {
	updates := map[Layer]*Update{}
	for _, a := range args {
		removed := strings.HasPrefix(a, "-")
		a = strings.TrimPrefix(a, "-")
		layer, ref, ok := strings.Cut(a, ":")
		if !ok {
			layer, ref = "mesh", a
		}
		u := updates[Layer(layer)]
		if u == nil {
			u = &Update{Layer: Layer(layer)}
			updates[u.Layer] = u
		}
		kind, rest, _ := strings.Cut(ref, "/")
		name, label, _ := strings.Cut(rest, "@")
		t, err := typeNamed(kind)
		if err != nil {
			return err
		}
		if removed {
			u.Remove = append(u.Remove, Ref{t, name})
			continue
		}
		r, err := s.resource(t, name, label)
		if err != nil {
			return err
		}
		u.Set = append(u.Set, r)
	}
	batch := make([]Update, 0, len(updates))
	for _, l := range slices.Sorted(maps.Keys(updates)) {
		batch = append(batch, *updates[l])
	}
	s.store.Publish(batch...)
	return nil
}

// resource makes one that differs for every label. A label that ends in ! makes it one for request only.
func (s *script) resource(t Type, name, label string) (*Resource, error) {
	var opts []Option
	if strings.HasSuffix(label, "!") {
		opts = append(opts, OnRequest)
	}
	r, err := NewResource(name, sample(t, name, label), opts...)
	if err == nil {
		s.labels[r.Version] = strings.TrimSuffix(label, "!")
	}
	return r, err
}

// sample is a resource in which the label shows, and of 70 KB if the label ends in ~. A cluster uses endpoints, and a listener a route, of its own name.
func sample(t Type, name, label string) proto.Message {
	if strings.HasSuffix(label, "~") {
		label = strings.Repeat(label, 70<<10/len(label))
	}
	stamp := &corev3.Metadata{FilterMetadata: nil, TypedFilterMetadata: map[string]*anypb.Any{"label": {TypeUrl: label}}}
	switch t {
	case Cluster:
		return &clusterv3.Cluster{
			Name: name, Metadata: stamp,
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()},
			ConnectTimeout:       durationpb.New(time.Second),
		}
	case Endpoints:
		return &endpointv3.ClusterLoadAssignment{ClusterName: name, NamedEndpoints: map[string]*endpointv3.Endpoint{label: {}}}
	case Route:
		if label == "empty" {
			return &routev3.RouteConfiguration{Name: name}
		}
		return &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{{Name: label, Domains: []string{"*"}}}}
	default:
		router, err := anypb.New(&routerv3.Router{})
		if err != nil {
			panic(err) // a fixed message
		}
		hcm, err := anypb.New(&hcmv3.HttpConnectionManager{
			StatPrefix:  name,
			HttpFilters: []*hcmv3.HttpFilter{{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router}}},
			RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{
				Rds: &hcmv3.Rds{RouteConfigName: name, ConfigSource: ads()},
			},
		})
		if err != nil {
			panic(err) // a fixed message
		}
		return &listenerv3.Listener{
			Name: name, Metadata: stamp,
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: "10.96.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1 + uint32(crc32.ChecksumIEEE([]byte(name)))%65535},
			}}},
			BindToPort: wrapperspb.Bool(false),
			FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
				Name: "http", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: hcm},
			}}}},
		}
	}
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

func (s *script) label(version string) string {
	if l, ok := s.labels[version]; ok {
		return l
	}
	return version
}

// versionOf gives the hash that a label stands for; unknown labels stand for themselves.
func (s *script) versionOf(t Type, name, label string) string {
	r, err := NewResource(name, sample(t, name, label))
	if err != nil {
		return label
	}
	return r.Version
}

func (s *script) allIdle() error {
	synctest.Wait()
	for _, p := range s.streams {
		if got := p.next(s.label); got != "" {
			return fmt.Errorf("%s has an unexpected response: %s", p.name, got)
		}
	}
	return nil
}

// typeNamed knows a type by the name it has in scripts, as a resource or as a protocol.
func typeNamed(name string) (Type, error) {
	for t, short := range [...]string{Cluster: "CDS", Endpoints: "EDS", Listener: "LDS", Route: "RDS"} {
		if t := Type(t); name == short || name == t.String() {
			return t, nil
		}
	}
	return 0, fmt.Errorf("no such type: %s", name)
}

func short(url string) string {
	t, ok := TypeOf(url)
	if !ok {
		return url[len(urlPrefix):]
	}
	return [...]string{Cluster: "CDS", Endpoints: "EDS", Listener: "LDS", Route: "RDS"}[t]
}

func codeOf(err error) string { return status.Code(err).String() }
