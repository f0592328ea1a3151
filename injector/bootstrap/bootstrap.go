// Package bootstrap writes the configuration that an Envoy starts with.
//
// It is one pure function, [New], from a struct to Envoy's Bootstrap message. What it holds is only what Envoy must
// know before it can ask: who it is, where its certificates come from, where the control plane is and who that is,
// where its own admin socket goes, and which statistics to keep. Everything else arrives over ADS. There are no secrets
// in it, only the names under which the agent beside this Envoy gives them out, and it opens no port.
package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"
)

// Names of the static clusters.
const (
	ControlPlane = "xds" // the control plane: ADS, statistics, health checks
	Secrets      = "sds" // the agent, which has this sidecar's certificate and the trust bundle
)

// Options describe one sidecar. ID, SDS, Server and Admin must be set.
type Options struct {
	ID            string        // node id, namespace/pod
	Cluster       string        // node cluster, for logs only; default: the ID's namespace
	Region, Zone  string        // where the node is; empty where the topology is not known
	SDS           string        // path of the unix socket where the agent gives out secrets
	Server        Server        // the control plane, by mutual TLS
	Admin         string        // path of the unix socket that Envoy makes for its admin interface
	AdminMode     fs.FileMode   // of that socket; default 0600
	Capture       Capture       // zero: traffic is redirected to Envoy
	HealthChecks  bool          // ask the control plane's HDS what to check
	Agent         string        // version of the agent, for people to see; may be empty
	FlushInterval time.Duration // push statistics to the control plane this often; 0: do not push
}

// Server is where the control plane is and who it is.
type Server struct {
	Address string // host:port; a name is looked up, IPv4 first
	ID      string // the one SPIFFE ID that its certificate may have, spiffe://...
}

// split gives the host and the port of the address.
func (s Server) split() (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(s.Address)
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("control plane's address %q: want host:port", s.Address)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("control plane's address %q: want a port from 1 to 65535", s.Address)
	}
	return host, uint16(n), nil
}

func (s Server) validate() error {
	_, _, err := s.split()
	if id, ok := strings.CutPrefix(s.ID, "spiffe://"); !ok || id == "" {
		err = errors.Join(err, fmt.Errorf("control plane's SPIFFE ID %q: want one that begins with spiffe://", s.ID))
	}
	return err
}

// Capture says how traffic reaches an Envoy where nothing is redirected to it: each of its listeners has a loopback
// address of its own.
type Capture struct {
	Bind netip.Prefix // outbound listeners are bound in this loopback network
	App  netip.Addr   // the application listens on this loopback address
}

// IsZero says that traffic is redirected.
func (c Capture) IsZero() bool { return c == Capture{} }

// New gives the bootstrap for o.
func New(o Options) (*bootstrapv3.Bootstrap, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	b := &bootstrapv3.Bootstrap{
		Node:             o.node(),
		Admin:            o.admin(),
		DynamicResources: dynamicResources(),
		StaticResources:  o.staticResources(),
		LayeredRuntime:   layeredRuntime(),
		OverloadManager:  overloadManager(),
		StatsConfig:      statsConfig(),
		// Statistics of a cluster exist from its first request on: with 1,000 Services a sidecar calls few.
		DeferredStatOptions: &bootstrapv3.Bootstrap_DeferredStatOptions{EnableDeferredCreationStats: true},
	}
	if o.FlushInterval > 0 {
		o.pushStats(b)
	}
	if o.HealthChecks {
		b.HdsConfig = &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices:        []*corev3.GrpcService{controlPlaneService()},
		}
	}
	if err := b.ValidateAll(); err != nil {
		return nil, fmt.Errorf("bootstrap of %s is not valid: %w", o.ID, err)
	}
	return b, nil
}

// YAML renders a bootstrap, the same bytes for the same input.
func YAML(b *bootstrapv3.Bootstrap) ([]byte, error) {
	// protojson varies its white space on purpose; the way through sorted YAML undoes that.
	json, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("write bootstrap as JSON: %w", err)
	}
	return yaml.JSONToYAML(json)
}

// maxSocketPath is what fits into sockaddr_un on Linux, see unix(7).
const maxSocketPath = 107

func (o Options) validate() error {
	var errs []error
	if ns, pod, ok := strings.Cut(o.ID, "/"); !ok || ns == "" || pod == "" {
		errs = append(errs, fmt.Errorf("node id %q: want namespace/pod", o.ID))
	}
	errs = append(errs, checkSocket("admin", o.Admin), o.Server.validate(), checkSocket("SDS", o.SDS))
	if !o.Capture.IsZero() && (!o.Capture.Bind.IsValid() || !o.Capture.App.IsValid()) {
		errs = append(errs, errors.New("capture: want both a network to bind in and the application's address, or neither"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("bootstrap of %q: %w", o.ID, err)
	}
	return nil
}

func checkSocket(what, path string) error {
	switch {
	case path == "":
		return fmt.Errorf("%s socket: no path given", what)
	case len(path) > maxSocketPath:
		return fmt.Errorf("%s socket: %q has %d bytes, a unix socket's path at most %d; use a shorter directory",
			what, path, len(path), maxSocketPath)
	}
	return nil
}

func (o Options) node() *corev3.Node {
	namespace, _, _ := strings.Cut(o.ID, "/")
	n := &corev3.Node{Id: o.ID, Cluster: o.Cluster}
	if n.Cluster == "" {
		n.Cluster = namespace
	}
	if o.Region != "" || o.Zone != "" {
		n.Locality = &corev3.Locality{Region: o.Region, Zone: o.Zone}
	}
	metadata := map[string]*structpb.Value{}
	if o.Agent != "" {
		metadata["dev.heddle.agent"] = structpb.NewStringValue(o.Agent)
	}
	if !o.Capture.IsZero() {
		metadata["dev.heddle.capture"] = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"bind": structpb.NewStringValue(o.Capture.Bind.String()),
			"app":  structpb.NewStringValue(o.Capture.App.String()),
		}})
	}
	if len(metadata) > 0 {
		n.Metadata = &structpb.Struct{Fields: metadata}
	}
	return n
}

func (o Options) admin() *bootstrapv3.Admin {
	mode := o.AdminMode
	if mode == 0 {
		mode = 0o600
	}
	return &bootstrapv3.Admin{
		Address:               pipe(o.Admin, mode),
		IgnoreGlobalConnLimit: true,
	}
}

func pipe(path string, mode fs.FileMode) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path, Mode: uint32(mode)}}}
}
