package main

import (
	"crypto/sha256"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/heddle-mesh/heddle/identity"
)

// Load tells a server what to hold.
type Load struct {
	Socket              string
	Services, Endpoints int
	Profile             string // where to write CPU and allocation profiles; empty for nowhere
}

// Loaded is a server that holds it.
type Loaded struct {
	Idle    Usage
	Address string             // for grpc.NewClient
	CA      *identity.Material // who makes proxies' certificates; nil: no TLS
}

// Change is one change of the mesh.
type Change struct {
	Kind       string // "endpoint", "service" (a new one) or "remove"
	Service    int
	Generation int
}

// Wanted is a resource that proxies are to have: no version means that they are not.
type Wanted struct{ Type, Name, Version string }

// backend is one way to serve resources.
type backend interface {
	register() *grpc.Server
	// prepare gives what proxies will have after the change; publish makes it so.
	prepare(set []named, gone []string) ([]Wanted, error)
	publish() error
	acks() int
}

// Server is the service that a server process offers to main.
type Server struct {
	process
	backend   backend
	endpoints int
	state     map[[2]string]string // version by type and name: what every proxy is to have
}

// Load fills the server and starts it.
func (s *Server) Load(l Load, loaded *Loaded) error {
	s.endpoints, s.state = l.Endpoints, map[[2]string]string{}
	var all []named
	for i := range l.Services {
		all = append(all, service(i, l.Endpoints, 0)...)
	}
	if _, err := s.stage(all, nil); err != nil {
		return err
	}
	if err := s.backend.publish(); err != nil {
		return err
	}
	listener, err := net.Listen("unix", l.Socket)
	if err != nil {
		return err
	}
	go s.backend.register().Serve(listener)
	loaded.Address = "unix:" + l.Socket
	loaded.Idle, err = s.begin(l.Profile, s.backend.acks)
	return err
}

// Prepare makes ready for a change and says what it will lead to.
func (s *Server) Prepare(c Change, want *[]Wanted) (err error) {
	switch c.Kind {
	case "endpoint":
		*want, err = s.stage([]named{{name(c.Service), assignment(name(c.Service), c.Service, s.endpoints, c.Generation)}}, nil)
	case "service":
		*want, err = s.stage(service(c.Service, s.endpoints, c.Generation), nil)
	case "remove":
		*want, err = s.stage(nil, []string{name(c.Service)})
	default:
		err = fmt.Errorf("no such change: %s", c.Kind)
	}
	return err
}

func (s *Server) stage(set []named, gone []string) ([]Wanted, error) {
	want, err := s.backend.prepare(set, gone)
	for _, w := range want {
		key := [2]string{w.Type, w.Name}
		if s.state[key] = w.Version; w.Version == "" {
			delete(s.state, key)
		}
	}
	return want, err
}

// Publish makes what was prepared visible and says when it began to.
func (s *Server) Publish(_ struct{}, at *time.Time) error {
	*at = time.Now()
	return s.backend.publish()
}

// Digest stands for what every proxy is to have now.
func (s *Server) Digest(_ struct{}, d *string) error {
	*d = digest(s.state)
	return nil
}

func digest(state map[[2]string]string) string {
	lines := make([]string, 0, len(state))
	for key, version := range state {
		lines = append(lines, key[0]+" "+key[1]+" "+version+"\n")
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, l := range lines {
		h.Write([]byte(l))
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
