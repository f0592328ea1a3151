package mesh

import (
	"testing"

	"github.com/heddle-mesh/heddle/model"
)

func TestSeveralSlicesOfAServiceAreOneList(t *testing.T) {
	s := meshOf(
		aService("shop/web", "10.96.0.1"),
		aPod("shop/a", "10.1.0.1"), aPod("shop/b", "10.1.0.2"),
		aSlice("shop/web-2", "web", at("b", "10.1.0.2")),
		aSlice("shop/web-1", "web", at("a", "10.1.0.1")),
	)
	want(t, "endpoints", where(s, "shop/web"), []string{"10.1.0.1:8080", "10.1.0.2:8080"})
	want(t, "hop", s.Outbound(View{Key: key("shop/web")}).Ports[0].Hop, model.HopMesh)
	want(t, "inbound services", s.Workload(key("shop/a")).Ports[0].Services, []model.Key{key("shop/web")})
}
