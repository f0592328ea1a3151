package relay

import (
	"encoding/json"
	"fmt"
)

// Bootstrap gives the file that an application names in GRPC_XDS_BOOTSTRAP: its xDS server is the socket, its node is
// id, and its locality region and zone (gRFC A27). There is nothing secret in it.
func Bootstrap(socket, id, region, zone string) ([]byte, error) {
	type credentials struct {
		Type string `json:"type"`
	}
	type server struct {
		URI         string        `json:"server_uri"`
		Credentials []credentials `json:"channel_creds"`
		Features    []string      `json:"server_features"`
	}
	type locality struct {
		Region string `json:"region,omitempty"`
		Zone   string `json:"zone,omitempty"`
	}
	type node struct {
		ID       string   `json:"id"`
		Locality locality `json:"locality"`
	}
	text, err := json.MarshalIndent(struct {
		Servers []server `json:"xds_servers"`
		Node    node     `json:"node"`
	}{
		// The way to the socket needs no TLS: it ends in this pod.
		[]server{{"unix://" + socket, []credentials{{"insecure"}}, []string{"xds_v3"}}},
		node{id, locality{region, zone}},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the xDS bootstrap of gRPC: %w", err)
	}
	return append(text, '\n'), nil
}
