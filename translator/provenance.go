package translator

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/heddle-mesh/heddle/model"
)

// provenanceKey is where every resource says what it was made from, so that explain, diff and access logs can name it.
const provenanceKey = "dev.heddle"

// provenance renders origins as metadata, or nil without any. Only the parts that have effect on a resource belong
// there: an origin's hash that changes would otherwise replace a resource which is the same, and a replaced listener
// drains its connections.
func provenance(origins ...model.Origin) *corev3.Metadata {
	var list []*structpb.Value
	for _, o := range origins {
		if o.IsZero() {
			continue
		}
		fields := map[string]*structpb.Value{
			"kind": structpb.NewStringValue(o.Kind),
			"name": structpb.NewStringValue(o.Key.String()),
		}
		for name, value := range map[string]string{"item": o.Item, "part": o.Part, "hash": o.Hash} {
			if value != "" {
				fields[name] = structpb.NewStringValue(value)
			}
		}
		list = append(list, structpb.NewStructValue(&structpb.Struct{Fields: fields}))
	}
	if len(list) == 0 {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		provenanceKey: {Fields: map[string]*structpb.Value{"origins": structpb.NewListValue(&structpb.ListValue{Values: list})}},
	}}
}

// originsOf gives the origins of the fields that a resource depends on, in the order given, each once.
func originsOf(all map[model.Field]model.Origin, fields ...model.Field) []model.Origin {
	var out []model.Origin
	for _, f := range fields {
		if o := all[f]; !o.IsZero() && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out
}

// portOrigin is a Service port as an origin. Its hash covers what that port's resources take from the Service and
// nothing else, so that a port added beside it replaces no listener.
func portOrigin(o *model.Outbound, p model.OutboundPort) model.Origin {
	h := sha256.New()
	fmt.Fprintf(h, "%v {%s %d %s %t} %v\n", p.Addresses, p.Name, p.Number, p.Protocol, p.Declared, p.Hop)
	return model.Origin{
		Kind: "Service", Key: o.Service.Key,
		Part: portPart(p.Number),
		Hash: hex.EncodeToString(h.Sum(nil)[:8]),
	}
}

func portPart(number uint16) string { return fmt.Sprintf("ports/%d", number) }

// The fields of a Traffic policy by the resource that they have effect on: an edit of one replaces only these.

func listenerOrigins(t *model.Traffic) []model.Origin { return originsOf(t.Origins, "idleTimeout") }

func clusterOrigins(t *model.Traffic) []model.Origin {
	return originsOf(t.Origins, "circuitBreaker", "outlierDetection", "loadBalancer", "connection", "retries")
}

func routeOrigins(t *model.Traffic) []model.Origin {
	return originsOf(t.Origins, "timeout", "idleTimeout", "retries", "loadBalancer", "routes")
}

// OriginsOf reads back what provenance wrote into a resource; nil if it says nothing.
func OriginsOf(m proto.Message) []model.Origin {
	carrier, ok := m.(interface{ GetMetadata() *corev3.Metadata })
	if !ok {
		return nil
	}
	var out []model.Origin
	for _, v := range carrier.GetMetadata().GetFilterMetadata()[provenanceKey].GetFields()["origins"].GetListValue().GetValues() {
		f := v.GetStructValue().GetFields()
		namespace, name, _ := strings.Cut(f["name"].GetStringValue(), "/")
		out = append(out, model.Origin{
			Kind: f["kind"].GetStringValue(),
			Key:  model.Key{Namespace: namespace, Name: name},
			Item: f["item"].GetStringValue(),
			Part: f["part"].GetStringValue(),
			Hash: f["hash"].GetStringValue(),
		})
	}
	return out
}
