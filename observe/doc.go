// Package observe turns what sidecars count into golden signals: requests, success and latency per edge, per target
// and per route, with retries, overflows and ejections.
//
// Sidecars push their statistics to [Observer], which is Envoy's MetricsService. [parse] reads a message, [window]
// adds it up in slots of time, and [Observer.View] sums the slots of a period. Parsing and adding are values in,
// values out; the lock and the clock are the Observer's.
//
// An edge is what a caller met when it called a Service: measured by its own sidecar's listener, so with time-outs,
// injected faults and answers of the sidecar itself. A target is what that sidecar sent to one cluster: the share
// of a split, with retries, overflows and ejections. A route is how many requests one route of a Service took.
//
// How Envoy 1.40 pushes, as tried on the binary:
//   - The node is in the first message of a stream only. Each metric is a family of its own with one entry.
//   - Counters come as differences, unchanged ones too, as 0. Those that were never touched do not come.
//   - Histograms are intervals, cumulative over their bounds, all bounds always. Times are whole milliseconds, rounded
//     down, and kept to two digits; a bound at the lower edge of such a bin includes the bin (see the bounds in
//     injector/bootstrap).
//   - A difference is lost if no stream is open when it is flushed. A last flush comes at SIGTERM, on a stream that is open already.
//   - cluster.upstream_rq_time has no entry for a request that timed out: it shows only what was answered, and a p99
//     over it is too good. The listener's downstream_rq_time has all. Both measure the whole request, retries included.
//   - cluster.upstream_rq_xx has the answers that callers got, time-outs and overflows among them; those that were
//     retried count under .retry instead. upstream_rq_total counts each try.
//   - ejections_active falls back to 0 by itself; ejections_enforced_total counts those that took place.
//   - What max_requests refuses counts as upstream_rq_active_overflow, which is new: it was upstream_rq_pending_overflow,
//     as it still is for max_pending_requests.
package observe
