package sds

import (
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// flavour translates between one of xDS's two protocols and a conversation.
type flavour[Q, R any] struct {
	request  func(*Q) (question, error)
	response func(dispatch) *R
}

func stateOfTheWorld() flavour[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse] {
	return flavour[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]{
		request: func(q *discoveryv3.DiscoveryRequest) (question, error) {
			return question{
				nonce:   q.GetResponseNonce(),
				refusal: refusal(q.GetErrorDetail()),
				all:     append([]string{}, q.GetResourceNames()...), // never nil
			}, checkType(q.GetTypeUrl())
		},
		response: func(d dispatch) *discoveryv3.DiscoveryResponse {
			return &discoveryv3.DiscoveryResponse{
				TypeUrl: secretType, VersionInfo: d.secret.version, Nonce: d.nonce,
				// Secrets are no wildcard type: one that is absent from a response is unchanged, not removed.
				Resources: []*anypb.Any{d.secret.resource},
			}
		},
	}
}

func delta() flavour[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse] {
	return flavour[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]{
		request: func(q *discoveryv3.DeltaDiscoveryRequest) (question, error) {
			return question{
				nonce:       q.GetResponseNonce(),
				refusal:     refusal(q.GetErrorDetail()),
				subscribe:   q.GetResourceNamesSubscribe(),
				unsubscribe: q.GetResourceNamesUnsubscribe(),
				held:        q.GetInitialResourceVersions(),
			}, checkType(q.GetTypeUrl())
		},
		response: func(d dispatch) *discoveryv3.DeltaDiscoveryResponse {
			return &discoveryv3.DeltaDiscoveryResponse{
				TypeUrl: secretType, SystemVersionInfo: d.secret.version, Nonce: d.nonce,
				Resources: []*discoveryv3.Resource{{Name: d.name, Version: d.secret.version, Resource: d.secret.resource}},
			}
		},
	}
}

// refusal is what Envoy says against a response, shortened: its messages can quote what they refuse.
func refusal(s *status.Status) *string {
	if s == nil {
		return nil
	}
	const most = 300
	message := s.GetMessage()
	if len(message) > most {
		message = message[:most] + "..."
	}
	return &message
}
