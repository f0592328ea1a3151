package wire_test

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/heddle-mesh/heddle/test/wire"
)

// storePods are the pods of every Service of the example.
func storePods() []string { return []string{"store-1", "store-2", "store-3"} }

// greeters lets every application at a port say its pod's name to who connects.
func greeters(mesh *wire.Mesh, port int) {
	for _, pod := range storePods() {
		mesh.AppAt(pod, port).Speaks(wire.Banner(pod))
	}
}

// greeted counts who greets n connections, made one after the other; "" is for those that end without a word. The caller
// speaks as well: a port of unknown protocol passes nothing on before.
func greeted(from *wire.Caller, service string, n int) map[string]int {
	met := map[string]int{}
	for range n {
		c := from.Dial(service)
		_, _ = c.Write([]byte("hello\n")) // fails where the connection is refused, which counts
		line, _ := c.Line()
		met[line]++
		_ = c.Close()
	}
	return met
}

func TestConnectionsOfOneCallerStayAtOnePod(t *testing.T) {
	mesh := wire.Start(t, "tcp")
	web := mesh.Caller("web")
	const n = 20
	services := []struct {
		name, address string
		port          int
	}{
		{"by session affinity", "sessions:7000", 7000},
		{"by a hash of their address", "cache:7001", 7001},
		{"on a port that carries TCP as it turns out", "legacy:7002", 7002},
	}
	// only is the pod that all connections of a caller meet.
	only := func(t *testing.T, from *wire.Caller, service string) string {
		t.Helper()
		met := greeted(from, service, n)
		for pod := range met {
			if len(met) == 1 && pod != "" {
				return pod
			}
		}
		t.Fatalf("connections of one caller met %v, want one pod", met)
		return ""
	}
	for _, s := range services {
		mesh.Run(s.name, func(t *testing.T) {
			greeters(mesh, s.port)
			only(t, web, s.address)
			all := map[string]int{}
			for i := range n {
				maps.Copy(all, greeted(web.From(netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)})), s.address, 1))
			}
			if len(all) < 2 {
				t.Errorf("%d callers met %v: nothing was balanced", n, all)
			}
		})
	}
	mesh.Run("and go on at another one when that pod goes", func(t *testing.T) {
		greeters(mesh, 7001)
		gone := only(t, web, "cache:7001")
		mesh.Edit("name: "+gone+"}", "ready: true", "ready: false")
		mesh.Eventually("the pod is left out", func() bool { return greeted(web, "cache:7001", n)[gone] == 0 })
		only(t, web, "cache:7001")
	})
}

func TestAPodThatRefusesTCPConnectionsIsLeftOutByAllCallers(t *testing.T) {
	t.Parallel() // it mostly waits
	mesh := wire.Start(t, "tcp")
	web, mobile := mesh.Caller("web"), mesh.Caller("mobile")
	greeters(mesh, 7003)
	const queue, n = "queue:7003", 12
	bad := mesh.AppAt("store-2", 7003)

	if met := greeted(mobile, queue, n); met["store-2"] != n/3 {
		t.Fatalf("connections met %v, want a third each", met)
	}
	bad.Refuse()
	// That the pod's sidecar takes the connection is all that a caller's sidecar sees, so neither could find out by itself.
	if met := greeted(web, queue, n); met[""] == 0 {
		t.Fatalf("connections met %v, want some to be refused", met)
	}
	mesh.Eventually("the pod is left out for the other caller", func() bool { return greeted(mobile, queue, 3)[""] == 0 })
	mesh.Eventually("the pod is left out for the caller that met refusals", func() bool { return greeted(web, queue, n)[""] == 0 })

	bad.Accept()
	mesh.Eventually("the pod is taken back", func() bool { return greeted(web, queue, n)["store-2"] > 0 })
}
