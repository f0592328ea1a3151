package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/heddle-mesh/heddle/injector/bootstrap"
)

// idle is how long an agent has nothing to do.
const idle = 30 * time.Second

// BenchmarkIdleAgent measures the built program while its identity is good and both of its sockets have somebody who
// listens, an application and what stands for Envoy: the memory that it has to itself, and what it uses in half a minute.
func BenchmarkIdleAgent(b *testing.B) {
	p := startMesh(b).start(b, program(b), "--no-envoy", "--log-level", "info")
	p.awaitReady(b)
	source := must(workloadapi.NewX509Source(b.Context(), workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+filepath.Join(p.dir, "api.sock")))))
	defer source.Close()
	conn := must(grpc.NewClient("unix:"+filepath.Join(p.dir, "private", "sds.sock"), grpc.WithTransportCredentials(insecure.NewCredentials())))
	defer conn.Close()
	secrets := must(secretv3.NewSecretDiscoveryServiceClient(conn).StreamSecrets(b.Context()))
	for _, name := range []string{bootstrap.CertificateSecret, bootstrap.BundleSecret} {
		url := "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
		if err := secrets.Send(&discoveryv3.DiscoveryRequest{TypeUrl: url, ResourceNames: []string{name}}); err != nil {
			b.Fatal(err)
		}
		must(secrets.Recv())
	}
	before := p.ticks(b)
	for b.Loop() {
		<-time.After(idle)
	}
	used := p.ticks(b) - before
	b.Logf("aim: at most %.1f MB anonymous", float64(maxAnonymous)/1024)
	b.ReportMetric(float64(p.kib(b, "Anonymous"))/1024, "MB-anonymous")
	b.ReportMetric(float64(p.kib(b, "Rss"))/1024, "MB-resident")
	b.ReportMetric(float64(used)*1000/userHz/float64(b.N), "cpu-ms/30s")
	b.ReportMetric(0, "ns/op")
}

// userHz is the unit of times in /proc/PID/stat, on every architecture that Envoy is built for; see proc(5).
const userHz = 100

// ticks is utime + stime of the process.
func (p *process) ticks(t testing.TB) int {
	t.Helper()
	text := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))))
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+2:])
	return must(strconv.Atoi(fields[11])) + must(strconv.Atoi(fields[12]))
}
