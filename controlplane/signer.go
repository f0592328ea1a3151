package controlplane

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/identity/service"
	"github.com/heddle-mesh/heddle/kube"
	"github.com/heddle-mesh/heddle/model"
)

// ServiceAccounts of the control plane's two roles.
const (
	ServerAccount = "heddle"
	SignerAccount = "heddle-signer"
)

// ServingNames are the DNS names by which the API server and the command line know the control plane's server.
func ServingNames(namespace string) []string {
	name := ServerAccount + "." + namespace + ".svc" // the Service has the account's name
	return []string{name, name + ".cluster.local"}
}

// SignerOptions say what a signer signs with and where it answers. TrustDomain and Listener are required.
type SignerOptions struct {
	TrustDomain spiffeid.TrustDomain
	Namespace   string                // the control plane's own; default DefaultNamespace
	Listener    net.Listener          // closed when the signer ends
	Lifetime    time.Duration         // of leaves; default identity.DefaultLifetime
	TokenLife   time.Duration         // of JWT-SVIDs; default identity.DefaultTokenLifetime
	Skew        time.Duration         // how far clocks may differ; default 1 minute
	First       FirstCA               // default: one of Upstream, or a new root
	Upstream    keep.Upstream         // signs the CAs that are made here; nil: each is a root
	Registry    prometheus.Registerer // nil: nobody reads the metrics
	Log         zerolog.Logger
}

// FirstCA says what is to sign where there never was a CA. The zero value makes a new root.
type FirstCA struct {
	Make func(now time.Time) (*identity.Authority, error)
	From string // where Make finds a given one, for people; empty: it makes one
}

// Signer gives sidecars their identities, and this process its own.
type Signer struct {
	options   SignerOptions
	id        spiffeid.ID
	serverID  spiffeid.ID // of the control plane that sidecars dial
	keeper    *keep.Keeper
	connected *service.Connected
	server    *service.Server
	joins     *attest.JoinTokens // nil in a cluster
	pods      *attest.PodWatch   // nil without one
	door      *shown             // nil: sidecars are served by others
}

// ClusterOptions say which cluster's pods a signer signs for. Client and Identity are required.
type ClusterOptions struct {
	Client   kubernetes.Interface // with no limit of its own on requests (rest.Config.QPS): the signer has one
	CA       kubernetes.Interface // for the Lease and the CA, which must not wait behind what strangers ask; default Client
	Identity string               // of this process among the replicas: its pod's name
	// LeaseDuration is after how long a leader that is silent is replaced; default 15 s.
	LeaseDuration time.Duration
	// Apart says that the control plane's servers are other processes, which get their identities from here as sidecars
	// do. This one then has no [Signer.TLS].
	Apart bool
}

// NewClusterSigner makes a signer for a cluster, where the API server vouches for pods. The CA is in a Secret.
func NewClusterSigner(o SignerOptions, c ClusterOptions) (*Signer, error) {
	s, err := newSigner(o)
	if err != nil {
		return nil, err
	}
	if c.CA == nil {
		c.CA = c.Client
	}
	servers := s.options.Namespace + "/" + ServerAccount
	watch := attest.PodWatchOptions{
		Client: c.Client.CoreV1().RESTClient(), Label: model.SidecarLabel,
		Grown: func() { s.keeper.Wake() }, // its pods cannot start without the trust bundle
	}
	if c.Apart {
		watch.ControlPlane = servers
	}
	s.pods = attest.NewPodWatch(watch)
	kept := s.keepOptions()
	kept.Namespaces = s.pods.MeshedNamespaces
	s.keeper = keep.InCluster(kept, keep.ClusterOptions{Client: c.CA, Namespace: s.options.Namespace, Identity: c.Identity, LeaseDuration: c.LeaseDuration})
	reviewer := attest.NewReviewer(attest.ReviewerOptions{
		Reviews: c.Client.AuthenticationV1().TokenReviews(), Pods: s.pods, ControlPlane: servers,
	})
	offer := s.serviceOptions()
	registerKeeping(s.options.Registry, s.keeper)
	if c.Apart {
		offer.Serving = service.Serving{Account: servers, Names: ServingNames(s.options.Namespace)}
		offer.People = s.people
	} else {
		registerExpiry(s.options.Registry, s.ownExpiry)
	}
	s.server = service.ForCluster(offer, reviewer)
	return s, nil
}

// people lets the control plane's servers read what people may know: it is they whom people ask.
func (s *Signer) people(r *http.Request) error {
	bundle, err := s.bundle()
	if err != nil {
		return err
	}
	if r.TLS == nil {
		return errors.New("the caller shows no certificate")
	}
	id, err := identity.VerifyLeaf(r.TLS.PeerCertificates, bundle, time.Now())
	if err == nil && id != s.serverID {
		err = fmt.Errorf("the caller is %s and not %s", id, s.serverID)
	}
	return err
}

// NewFilesSigner makes a signer for sidecars on this machine, where no API server vouches for pods: whoever may use the
// control plane hands each sidecar a token ([Signer.Join]). The CA is in a directory of its own. pods finds the pods that
// there are, as [Plane.Pod] does; it is asked when sidecars renew.
func NewFilesSigner(o SignerOptions, dir string, pods func(context.Context, model.Key) (*model.Pod, error)) (*Signer, error) {
	s, err := newSigner(o)
	if err != nil {
		return nil, err
	}
	if s.keeper, err = keep.InDirectory(s.keepOptions(), dir); err != nil {
		return nil, err
	}
	s.joins = attest.NewJoinTokens(func(ctx context.Context, namespace, name string) (attest.Pod, bool, error) {
		pod, err := pods(ctx, model.Key{Namespace: namespace, Name: name})
		switch {
		case errors.Is(err, errNoPod):
			return attest.Pod{}, false, nil
		case err != nil:
			return attest.Pod{}, false, err
		}
		return attest.Pod{UID: pod.UID, Account: pod.ServiceAccount}, true, nil
	}, nil)
	registerExpiry(s.options.Registry, s.ownExpiry)
	registerKeeping(s.options.Registry, s.keeper)
	s.server = service.ForFiles(s.serviceOptions(), s.joins)
	return s, nil
}

func newSigner(o SignerOptions) (*Signer, error) {
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	s := &Signer{options: o, connected: service.NewConnected(nil)}
	var err error
	if s.id, err = identity.ID(o.TrustDomain, o.Namespace, SignerAccount); err != nil {
		return nil, err
	}
	s.serverID, err = identity.ID(o.TrustDomain, o.Namespace, ServerAccount)
	return s, err
}

// registerExpiry adds the metric of a process that serves.
func registerExpiry(r prometheus.Registerer, expiry func() float64) {
	if r != nil {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "heddle_identity_control_plane_expiry_seconds",
			Help: "When the first of the certificates that the control plane serves with expires, in seconds since 1970; 0 while one is missing.",
		}, expiry))
	}
}

// own is the certificate that sidecars are shown; nil: none, or not yet.
func (s *Signer) own() *service.Leaf {
	if s.door == nil {
		return nil
	}
	return s.door.leaf.Load()
}

func (s *Signer) ownExpiry() float64 {
	if own := s.own(); own != nil {
		return float64(own.NotAfter.Unix())
	}
	return 0
}

func (s *Signer) keepOptions() keep.Options {
	return keep.Options{
		TrustDomain: s.options.TrustDomain, First: s.options.First.Make, Given: s.options.First.From, Upstream: s.options.Upstream, Limits: identity.Limits{
			Leaf: s.options.Lifetime, Token: cmp.Or(s.options.TokenLife, identity.DefaultTokenLifetime), Slack: s.options.Skew,
		},
		Observe: s.observe, Registry: s.options.Registry, Log: s.log(),
	}
}

// observe says what a rotation has to know of who has an identity: of sidecars, and of this process itself.
func (s *Signer) observe(now, since time.Time) identity.Observation {
	var roll service.Roll
	if s.pods != nil {
		roll = s.pods
	}
	o := s.connected.Observe(roll, now, since)
	if own := s.own(); own != nil {
		// It reads the bundle at each handshake, so it has taken whatever there is.
		o.Proxies = append(o.Proxies, identity.ProxyObservation{
			Name: s.serverID.String(), LastSeen: now, Reported: now, Taken: s.keeper.Progress().Generation,
			Authority: own.Authority, Issued: own.Authority, LeafExpires: own.NotAfter,
		})
	}
	return o
}

func (s *Signer) serviceOptions() service.Options {
	return service.Options{
		ID: s.id, Authorities: s.keeper, Connected: s.connected, Lifetime: s.options.Lifetime, TokenLife: s.options.TokenLife,
		Issuers: func() []*identity.Authority { return s.keeper.Authorities() }, Progress: func() any { return s.keeper.Progress() },
		Registry: s.options.Registry, Log: s.log(),
	}
}

func (s *Signer) log() zerolog.Logger {
	return s.options.Log.With().Str("component", "signer").Logger()
}

// ID is the signer's own identity, by which sidecars know it.
func (s *Signer) ID() spiffeid.ID { return s.id }

// ServerID is the identity behind the door that sidecars dial.
func (s *Signer) ServerID() spiffeid.ID { return s.serverID }

// Address is where the signer answers.
func (s *Signer) Address() string { return s.options.Listener.Addr().String() }

// Facts are what people may know of identities.
func (s *Signer) Facts() (service.Facts, error) {
	f, err := s.server.Facts()
	if err != nil {
		return f, err
	}
	if own := s.own(); own != nil {
		f.ControlPlane = append([]service.Leaf{*own}, f.ControlPlane...)
	}
	return f, nil
}

// Keeper keeps the CA that it signs with, and rotates it.
func (s *Signer) Keeper() *keep.Keeper { return s.keeper }

func (s *Signer) bundle() (*spiffebundle.Bundle, error) {
	b, _, err := s.keeper.Bundle()
	return b, err
}

func errNoJoin(pod model.Key) error {
	return fmt.Errorf("make a join token for pod %s: in a cluster its own token says who a sidecar is", pod)
}

// Join gives a token for the sidecar of a pod, good once. It fails in a cluster.
func (s *Signer) Join(pod *model.Pod) (string, error) {
	if s.joins == nil {
		return "", errNoJoin(pod.Key)
	}
	return s.joins.Hand(identity.Workload{
		Namespace: pod.Key.Namespace, Account: pod.ServiceAccount, Pod: pod.Key.Name, PodUID: pod.UID, Node: pod.Node,
	}), nil
}

// TLS is the control plane's side of a [Door]. It must be called before Run.
func (s *Signer) TLS() *tls.Config {
	if s.door == nil {
		s.door = &shown{signer: s, certified: make(chan struct{})}
	}
	return identity.Server(s.door.certificate, s.bundle)
}

// await waits for the beginning to be over: until there is a certificate for sidecars, or at least a CA; or for a while.
func (s *Signer) await(ctx context.Context) {
	if s.door != nil {
		s.door.await(ctx)
		return
	}
	enough, cancel := context.WithTimeout(ctx, handshakePatience)
	defer cancel()
	_ = s.readable(enough) // whoever goes on finds out
}

// Run answers sidecars until ctx ends, and keeps this process's own certificate fresh.
func (s *Signer) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(kube.LogLibrary(ctx, s.log()))
	group.Go(func() error { return s.keeper.Run(running) })
	if s.pods != nil {
		group.Go(func() error { return s.pods.Run(running) })
	}
	group.Go(func() error { return s.server.Run(running, s.options.Listener) })
	if s.door != nil {
		renewer := s.door.renewer()
		group.Go(func() error { return renewer.Run(running) })
		group.Go(func() error { return s.renewOnRotation(running, renewer) })
	}
	return group.Wait()
}

// renewOnRotation has a certificate of the new CA as soon as that signs: the rotation waits for the leader's, and gives
// followers the time to read that it does.
func (s *Signer) renewOnRotation(ctx context.Context, r *identity.Renewer) error {
	for {
		_, changed, err := s.keeper.Bundle()
		select {
		case <-changed:
			if err == nil { // else it is the first one, which certify has waited for
				r.Renew()
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// readable waits until the CA has been read once.
func (s *Signer) readable(ctx context.Context) error {
	for {
		_, changed, err := s.keeper.Bundle()
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return err
		}
	}
}
