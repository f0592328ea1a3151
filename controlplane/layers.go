package controlplane

import (
	"github.com/heddle-mesh/heddle/model"
	"github.com/heddle-mesh/heddle/translator"
	"github.com/heddle-mesh/heddle/xds"
)

const (
	meshLayer       xds.Layer = "mesh"
	redirectedLayer xds.Layer = "redirected"
)

func podLayer(pod model.Key) xds.Layer { return xds.Layer("pod/" + pod.String()) }

func namespaceLayer(namespace string) xds.Layer { return xds.Layer("namespace/" + namespace) }

func zoneLayer(at model.Location) xds.Layer { return xds.Layer("zone/" + at.Region + "/" + at.Zone) }

func nodeLayer(at model.Location) xds.Layer { return xds.Layer("node/" + at.Node) }

// stack is what a proxy sees, the most specific layer first.
func stack(pod model.Key, at model.Location, capture translator.Capture) []xds.Layer {
	layers := []xds.Layer{podLayer(pod), nodeLayer(at), zoneLayer(at), namespaceLayer(pod.Namespace)}
	if capture.Redirected() {
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
