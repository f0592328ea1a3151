package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/mesh"
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/xds"
)

// Door is the service of the process that is a whole control plane.
type Door struct {
	process
	acked  atomic.Int64
	synced chan struct{}
}

// Load starts it on the facts of a mesh.
func (d *Door) Load(l Load, loaded *Loaded) error {
	ca, err := identity.NewRoot(trustDomain(), time.Now(), 0)
	if err != nil {
		return err
	}
	material, err := ca.Material()
	if err != nil {
		return err
	}
	own, err := certificate(ca, identity.Workload{Namespace: controlplane.DefaultNamespace, Account: "heddle"})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.synced = make(chan struct{})
	plane := controlplane.New(controlplane.Options{
		Source: facts(l), Observer: d, Log: zerolog.Nop(),
		Door: controlplane.Door{Listener: listener, TLS: identity.Server(
			func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil },
			func() (*spiffebundle.Bundle, error) { return ca.Bundle(), nil },
		)},
	})
	ended := make(chan error, 1)
	go func() { ended <- plane.Run(context.Background()) }()
	select {
	case <-d.synced:
	case err := <-ended:
		return fmt.Errorf("the control plane ended: %w", err)
	}
	loaded.Address, loaded.CA = listener.Addr().String(), &material
	loaded.Idle, err = d.begin(l.Profile, func() int { return int(d.acked.Load()) })
	return err
}

// Applied implements controlplane.Observer: all facts come in one batch.
func (d *Door) Applied(mesh.Changes) { close(d.synced) }

// Observe implements controlplane.Observer.
func (d *Door) Observe(e xds.Event) {
	if e.Kind == xds.Acked {
		d.acked.Add(1)
	}
}

// facts are those of a mesh of HTTP Services whose pods all have sidecars.
type facts Load

// Run implements controlplane.Source.
func (f facts) Run(ctx context.Context, out func([]model.Event)) error {
	var events []model.Event
	for i := range f.Services {
		service := model.Key{Namespace: pod(i, 0).Namespace, Name: fmt.Sprint("service-", i)}
		slice := &model.Slice{
			Key: service, Service: service.Name, Ports: []model.SlicePort{{Name: "http", Number: 8080}},
		}
		for j := range f.Endpoints {
			p := &model.Pod{
				Key: pod(i, j), UID: pod(i, j).Name, ServiceAccount: "default", Node: fmt.Sprint("node-", j), Meshed: true,
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(1 + j), byte(i >> 8), byte(i)})},
				Ports:     []model.PodPort{{Name: "http", Number: 8080}},
			}
			slice.Endpoints = append(slice.Endpoints, model.SliceEndpoint{
				Address: p.Addresses[0], Ready: true, Serving: true, Node: p.Node, Pod: p.Key.Name, PodUID: p.UID,
			})
			events = append(events, model.Event{Pod: p})
		}
		events = append(events, model.Event{Slice: slice}, model.Event{Service: &model.Service{
			Key: service, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
			Ports: []model.Port{{Name: "http", Number: 8080, Protocol: model.HTTP, Declared: true}},
		}})
	}
	out(append(events, model.Event{Synced: true}))
	<-ctx.Done()
	return ctx.Err()
}

// pod is one of a Service. The first are those of the proxies.
func pod(service, number int) model.Key {
	k := model.Key{Namespace: fmt.Sprint("team-", service%20), Name: fmt.Sprint("service-", service)}
	if number > 0 {
		k.Name += fmt.Sprint("-", number)
	}
	return k
}

func trustDomain() spiffeid.TrustDomain {
	return spiffeid.RequireTrustDomainFromString(controlplane.DefaultTrustDomain)
}

// credentialsFor are those of a proxy, with a certificate of its pod.
func credentialsFor(number int, ca *identity.Material) (credentials.TransportCredentials, error) {
	if ca == nil {
		return insecure.NewCredentials(), nil
	}
	issuer, err := identity.LoadAuthority(trustDomain(), *ca, time.Now())
	if err != nil {
		return nil, err
	}
	k := pod(number, 0)
	own, err := certificate(issuer, identity.Workload{Namespace: k.Namespace, Account: "default", Pod: k.Name, PodUID: k.Name})
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own},
		InsecureSkipVerify: true, // VerifyConnection does it: there is no host name in these certificates
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := identity.VerifyLeaf(state.PeerCertificates, issuer.Bundle(), time.Now())
			return err
		},
	}), err
}

func certificate(ca *identity.Authority, w identity.Workload) (tls.Certificate, error) {
	id, idErr := identity.ID(ca.TrustDomain(), w.Namespace, w.Account)
	key, keyErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(idErr, keyErr); err != nil {
		return tls.Certificate{}, err
	}
	chain, err := ca.Issue(context.Background(), identity.Request{ID: id, Key: key.Public(), Pod: w.Pod, PodUID: w.PodUID})
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{PrivateKey: key, Leaf: chain[0], Certificate: [][]byte{chain[0].Raw}}, nil
}
