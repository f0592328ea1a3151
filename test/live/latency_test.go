package live

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkWriteToTraffic measures the whole way: from the moment at which a client begins to write to the API server
// to the end of the first request that meets what was written, through the caller's and the server's Envoy. The write
// itself, etcd included, is a part of that and printed beside it.
func BenchmarkWriteToTraffic(b *testing.B) {
	b.Run("endpoint", func(b *testing.B) {
		w := start(b)
		pods := []*pod{w.pod("catalog-1"), w.pod("catalog-2")}
		catalog := w.service("catalog")
		w.slice("catalog", ready(pods[0]))
		w.answers(catalog)
		calls := w.caller(kept)
		writeToTraffic(b, func(i int) (write func(), met func() bool) {
			next := pods[(i+1)%2]
			return func() { w.slice("catalog", ready(next)) },
				func() bool { return calls.get(b.Context(), catalog, "/").pod == next.name }
		})
	})
	b.Run("policy", func(b *testing.B) {
		w := start(b)
		catalog := w.service("catalog")
		w.slice("catalog", ready(w.pod("catalog-1")))
		w.answers(catalog)
		calls := w.caller(kept)
		writeToTraffic(b, func(i int) (write func(), met func() bool) {
			want := fmt.Sprint(i)
			return func() { w.policy("catalog", generation(i)) },
				func() bool { return calls.get(b.Context(), catalog, "/").generation == want }
		})
	})
	b.Run("service", func(b *testing.B) {
		w := start(b)
		catalog := w.pod("catalog-1")
		calls := w.caller(fresh)
		writeToTraffic(b, func(i int) (write func(), met func() bool) {
			name := fmt.Sprint("new-", i)
			// The slice first: it has no effect until there is a Service.
			w.slice(name, ready(catalog))
			address := w.free(i)
			return func() { w.service(name, addressed(address)) },
				func() bool { return calls.get(b.Context(), address, "/").ok() }
		})
	})
}

// samples is how many writes are measured: enough that the 99th percentile is not the worst alone.
const samples = 300

// writeToTraffic measures changes one after the other. Each gives what writes it, and what tells by a request whether
// it is met.
func writeToTraffic(b *testing.B, change func(i int) (write func(), met func() bool)) {
	b.Helper()
	var whole, writes []time.Duration
	for b.Loop() {
		for i := range samples {
			write, met := change(len(whole) + i)
			begin := time.Now()
			write()
			written := time.Since(begin)
			for end := begin.Add(patience); !met(); {
				if time.Now().After(end) {
					b.Fatalf("no request meets what was written within %v", patience)
				}
			}
			whole, writes = append(whole, time.Since(begin)), append(writes, written)
		}
	}
	slices.Sort(whole)
	slices.Sort(writes)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op") // of a series, which says nothing
	b.ReportMetric(ms(quantile(whole, 0.5)), "p50-ms")
	b.ReportMetric(ms(quantile(whole, 0.99)), "p99-ms")
	b.ReportMetric(ms(quantile(writes, 0.5)), "write-p50-ms")
	b.ReportMetric(ms(quantile(writes, 0.99)), "write-p99-ms")
}
