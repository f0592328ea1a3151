package xds

import (
	"fmt"
	"math/big"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// validate refuses what Envoy would refuse, as far as can be told from here. It matters more than a NACK suggests:
// one bad resource in a response takes its neighbours down with it.
func validate(m proto.Message) error {
	if v, ok := m.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return err
		}
	}
	if c, ok := m.(*clusterv3.Cluster); ok {
		return validateHashing(c)
	}
	return nil
}

// validateHashing stops hash tables that Envoy cannot build. It does not answer those with a NACK: the cluster
// warms for ever, and with it the acknowledgement of every later cluster.
func validateHashing(c *clusterv3.Cluster) error {
	const largestRing = 8 << 20 // envoy docs, config.cluster.v3.Cluster.RingHashLbConfig
	if ring := c.GetRingHashLbConfig(); ring != nil {
		low, high := uint64(1024), uint64(largestRing)
		if v := ring.GetMinimumRingSize(); v != nil {
			low = v.GetValue()
		}
		if v := ring.GetMaximumRingSize(); v != nil {
			high = v.GetValue()
		}
		if low > high {
			return fmt.Errorf("minimum_ring_size %d is above maximum_ring_size %d", low, high)
		}
	}
	if size := c.GetMaglevLbConfig().GetTableSize(); size != nil && !new(big.Int).SetUint64(size.GetValue()).ProbablyPrime(0) {
		return fmt.Errorf("maglev table_size %d is not a prime", size.GetValue())
	}
	return nil
}

// endpointsOf names the ClusterLoadAssignment that c waits for before it can be used.
func endpointsOf(c *clusterv3.Cluster) []string {
	if c.GetType() != clusterv3.Cluster_EDS {
		return nil
	}
	if name := c.GetEdsClusterConfig().GetServiceName(); name != "" {
		return []string{name}
	}
	return []string{c.GetName()}
}

// routesOf names the route configurations that l waits for before it can be used.
func routesOf(l *listenerv3.Listener) ([]string, error) {
	var names []string
	add := func(config *anypb.Any) error {
		if !config.MessageIs((*hcmv3.HttpConnectionManager)(nil)) {
			return nil
		}
		var hcm hcmv3.HttpConnectionManager
		if err := config.UnmarshalTo(&hcm); err != nil {
			return fmt.Errorf("decoding its http_connection_manager: %w", err)
		}
		if err := hcm.Validate(); err != nil {
			return fmt.Errorf("validating its http_connection_manager: %w", err)
		}
		if name := hcm.GetRds().GetRouteConfigName(); name != "" {
			names = append(names, name)
		}
		return nil
	}
	for _, chain := range append(slices.Clip(l.GetFilterChains()), l.GetDefaultFilterChain()) {
		for _, f := range chain.GetFilters() {
			if err := add(f.GetTypedConfig()); err != nil {
				return nil, err
			}
		}
	}
	return names, add(l.GetApiListener().GetApiListener())
}
