package service

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/identity/attest"
	"github.com/heddle-mesh/heddle/identity/client"
)

// BenchmarkSidecarsThatStartAtOnce measures how long a sidecar waits for its first certificate when 400 start at once:
// a connection of its own, a token that a real API server reviews, a CSR and the check of the answer. The sidecars and
// the API server share the machine with the signer, so it is the whole, and not the signer's part of it.
func BenchmarkSidecarsThatStartAtOnce(b *testing.B) {
	const sidecars = 400
	s := forCluster(b, nil)
	type sidecar struct {
		token string
		csr   []byte
	}
	all := make([]sidecar, sidecars)
	var making sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range all {
		slots <- struct{}{}
		making.Go(func() {
			defer func() { <-slots }()
			p := s.pod(s.namespace, fmt.Sprint("web-", i), func(p *corev1.Pod) { p.Spec.NodeName = fmt.Sprint("node-", i%10) })
			all[i] = sidecar{s.token(p, attest.DefaultAudience), csrOf(b, newKey(b))}
		})
	}
	making.Wait()
	var took []time.Duration
	for b.Loop() {
		each := make([]time.Duration, sidecars)
		errs := make([]error, sidecars)
		var starting sync.WaitGroup
		begin := make(chan struct{})
		for i := range all {
			c := client.New(client.Options{Address: s.address, Signer: signerID(b), Bundle: s.bundleNow, Timeout: time.Minute})
			starting.Go(func() {
				<-begin
				at := time.Now()
				_, errs[i] = c.SVID(b.Context(), all[i].token, all[i].csr)
				each[i] = time.Since(at)
			})
		}
		close(begin)
		starting.Wait()
		for _, err := range errs {
			if err != nil {
				b.Fatal(err)
			}
		}
		took = append(took, each...)
	}
	slices.Sort(took)
	for _, percent := range []int{50, 99} {
		b.ReportMetric(float64(took[(len(took)-1)*percent/100].Microseconds())/1000, fmt.Sprintf("ms/p%d", percent))
	}
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms/max")
}
