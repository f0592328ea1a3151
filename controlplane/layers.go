package controlplane

import (
	"fmt"

	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/xds"
)

const (
	meshLayer       xds.Layer = "mesh"
	redirectedLayer xds.Layer = "redirected"
)

// podLayer is for one sidecar: two pods that follow each other under one name have layers of their own.
func podLayer(pod model.Key, n uint64) xds.Layer { return xds.Layer(fmt.Sprintf("pod/%s/%d", pod, n)) }

func namespaceLayer(namespace string) xds.Layer { return xds.Layer("namespace/" + namespace) }

func zoneLayer(at model.Location) xds.Layer { return xds.Layer("zone/" + at.Region + "/" + at.Zone) }

func nodeLayer(at model.Location) xds.Layer { return xds.Layer("node/" + at.Node) }

// stack is what a proxy sees, the most specific layer first.
func stack(px *proxy) []xds.Layer {
	layers := []xds.Layer{px.layer, nodeLayer(px.at), zoneLayer(px.at), namespaceLayer(px.pod.Namespace)}
	if px.capture.Redirected() {
		layers = append(layers, redirectedLayer)
	}
	return append(layers, meshLayer)
}

// audienceLayers are where a view for an audience is published: its routes and clusters, and its listeners.
func audienceLayers(audience string) (layer, listeners xds.Layer) {
	if audience == "" {
		return meshLayer, redirectedLayer
	}
	return namespaceLayer(audience), namespaceLayer(audience)
}
