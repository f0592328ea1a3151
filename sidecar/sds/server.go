package sds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// Options describe what is served.
type Options struct {
	Names []string // the only secrets there are
	Log   zerolog.Logger
}

// Server is the secret discovery service of one Envoy. Make it with [New].
type Server struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	log   zerolog.Logger
	names []string

	mu      sync.Mutex
	secrets map[string]secret
	streams map[*stream]struct{}
	refused map[string]int
	changed chan struct{} // closed and replaced when what is above changes
}

// secret is one version of a resource, ready to be sent.
type secret struct {
	version  string
	resource *anypb.Any
}

// New gives a server without secrets: who asks for one waits until it is set.
func New(o Options) *Server {
	return &Server{
		log: o.Log, names: slices.Clone(o.Names), secrets: map[string]secret{}, streams: map[*stream]struct{}{},
		refused: map[string]int{}, changed: make(chan struct{}),
	}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	secretv3.RegisterSecretDiscoveryServiceServer(r, s)
}

// Set replaces a secret. The same version again changes nothing.
func (s *Server) Set(version string, v *tlsv3.Secret) error {
	if !slices.Contains(s.names, v.GetName()) {
		return fmt.Errorf("set secret %q: only %q are served", v.GetName(), s.names)
	}
	resource, err := anypb.New(v)
	if err != nil {
		return fmt.Errorf("set secret %q: %w", v.GetName(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets[v.GetName()].version != version {
		s.secrets[v.GetName()] = secret{version, resource}
		s.wakeLocked()
	}
	return nil
}

// Taken is the version of a secret that Envoy has in use: the one that every stream which asked for it has accepted
// last. It is empty as long as nobody asked, or while streams differ.
func (s *Server) Taken(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken, first := "", true
	for st := range s.streams {
		v, asked := st.taken[name]
		switch {
		case !asked:
		case first:
			taken, first = v, false
		case taken != v:
			return ""
		}
	}
	return taken
}

// Refused is how often Envoy refused each secret.
func (s *Server) Refused() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.refused)
}

// Changed gives a channel that is closed when a secret, or what Envoy has taken or refused, is no longer what it was
// at the call.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Server) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// current gives the secrets and the channel that tells when to look again.
func (s *Server) current() (map[string]secret, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.secrets), s.changed
}

// stream is what others may know of an open stream: the version of each subscribed secret that it has accepted.
type stream struct{ taken map[string]string }

func (s *Server) open() *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &stream{}
	s.streams[st] = struct{}{}
	return st
}

func (s *Server) close(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	s.wakeLocked()
}

// heard publishes what a request told of its stream.
func (s *Server) heard(st *stream, taken map[string]string, refused string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused != "" {
		s.refused[refused]++
	} else if maps.Equal(st.taken, taken) {
		return // nothing that anybody waits for
	}
	st.taken = taken
	s.wakeLocked()
}

// serve holds one conversation until the client or the server ends it.
func serve[Q, R any](s *Server, grpcStream grpc.BidiStreamingServer[Q, R], f flavour[Q, R]) error {
	ctx := grpcStream.Context()
	requests, ended := receive(ctx, grpcStream.Recv)
	st := s.open()
	defer s.close(st)
	c := newConversation(s.names)
	for {
		secrets, changed := s.current()
		for _, next := range c.due(secrets) {
			if err := grpcStream.Send(f.response(next)); err != nil {
				return err
			}
		}
		select {
		case message := <-requests:
			q, err := f.request(message)
			if err != nil {
				return err
			}
			said := c.hear(q)
			s.report(said)
			s.heard(st, c.taken(), said.refused)
		case <-changed:
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func (s *Server) report(said remark) {
	for _, name := range said.unknown {
		s.log.Warn().Str("secret", name).Msg("a secret that does not exist here was asked for and is not answered")
	}
	if said.refused != "" {
		s.log.Error().Str("secret", said.refused).Str("version", said.version).Str("reason", said.reason).
			Msg("Envoy refuses a secret and keeps the one it had")
	}
}

// receive reads messages until the stream ends. The goroutine ends with the handler that calls it, because gRPC ends
// ctx and Recv then.
func receive[Q any](ctx context.Context, recv func() (*Q, error)) (<-chan *Q, <-chan error) {
	messages, ended := make(chan *Q), make(chan error, 1)
	go func() {
		for {
			m, err := recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				ended <- status.FromContextError(ctx.Err()).Err()
				return
			}
		}
	}()
	return messages, ended
}

// StreamSecrets serves the state of the world.
func (s *Server) StreamSecrets(g secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	return serve(s, g, stateOfTheWorld())
}

// DeltaSecrets serves changes.
func (s *Server) DeltaSecrets(g secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	return serve(s, g, delta())
}

// checkType refuses questions for anything but secrets.
func checkType(url string) error {
	if url != secretType {
		return status.Errorf(codes.InvalidArgument, "this socket serves %s only, not %q", secretType, url)
	}
	return nil
}
