package controlplane

import (
	"context"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/model"
)

// peer is who is at the other end of a stream, as its certificate proves: what it says of itself decides nothing.
type peer struct {
	pod     model.Key
	uid     string // of the pod, as attested; empty without a cluster
	account string
}

// peerOf reads the certificate of a stream's connection, which the handshake has verified.
func peerOf(ctx context.Context) (peer, error) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return peer{}, status.Error(codes.Unauthenticated, "the connection does not say who is at its other end")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return peer{}, status.Error(codes.Unauthenticated, "the connection has no client certificate")
	}
	leaf := info.State.PeerCertificates[0]
	id, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return peer{}, status.Errorf(codes.Unauthenticated, "the client certificate has no SPIFFE ID: %v", err)
	}
	namespace, account, err := identity.Split(id)
	if err != nil {
		return peer{}, status.Errorf(codes.PermissionDenied, "%v; only workloads of this mesh are served", err)
	}
	pod, uid, err := identity.PodOf(leaf)
	if err != nil {
		return peer{}, status.Errorf(codes.PermissionDenied, "the client certificate of %s names no pod: %v", id, err)
	}
	return peer{pod: model.Key{Namespace: namespace, Name: pod}, uid: uid, account: account}, nil
}

// is says whether a pod as the mesh knows it is the one that the certificate was made for, and not an earlier one of
// its name or one that has changed its account.
func (p peer) is(pod *model.Pod) bool {
	return pod.Key == p.pod && pod.ServiceAccount == p.account && (p.uid == "" || pod.UID == p.uid)
}
