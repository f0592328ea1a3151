package observe

import "slices"

// Sample is what was counted about something in a while.
type Sample struct {
	Classes     [6]uint64 // responses by class: Classes[5] are those with 5xx
	GRPCFailed  uint64    // calls that failed by their gRPC status, most of which HTTP calls a 200
	Latency     Histogram // of whole requests, retries included, in milliseconds
	Connections uint64    // TCP only
	Timeouts    uint64    // of the whole request
	TryTimeouts uint64    // of one try
	Retries     uint64    // tries after the first
	Rescued     uint64    // retries that were answered well
	Unretried   uint64    // failures not retried because budget or attempts were used up
	Overflows   uint64    // refused by a circuit breaker
	Aborted     uint64    // by a fault that a policy asks for
	Ejections   uint64    // endpoints taken out
	Detected    uint64    // endpoints found failing, whether taken out or not
	Streaks     uint64    // runs of consecutive failures found
}

// State is what is so now, as last heard.
type State struct {
	Ejected  uint64 // endpoints that are out
	Members  uint64
	Healthy  uint64
	Breakers uint64 // circuit breakers that are open
}

// Requests is the number of answered requests.
func (s *Sample) Requests() uint64 {
	var n uint64
	for _, c := range s.Classes {
		n += c
	}
	return n
}

// Failures are 5xx, and gRPC statuses that blame the server (unknown, deadline exceeded, internal, unavailable, data
// loss).
func (s *Sample) Failures() uint64 { return min(s.Requests(), s.Classes[5]+s.GRPCFailed) }

// Success is the share of requests that did not fail; false without requests, since no traffic is not success.
func (s *Sample) Success() (float64, bool) {
	n := s.Requests()
	if n == 0 {
		return 0, false
	}
	return 1 - float64(s.Failures())/float64(n), true
}

// Add adds o.
func (s *Sample) Add(o *Sample) {
	for i, c := range o.Classes {
		s.Classes[i] += c
	}
	s.GRPCFailed += o.GRPCFailed
	s.Latency = s.Latency.plus(o.Latency)
	s.Connections += o.Connections
	s.Timeouts += o.Timeouts
	s.TryTimeouts += o.TryTimeouts
	s.Retries += o.Retries
	s.Rescued += o.Rescued
	s.Unretried += o.Unretried
	s.Overflows += o.Overflows
	s.Aborted += o.Aborted
	s.Ejections += o.Ejections
	s.Detected += o.Detected
	s.Streaks += o.Streaks
}

// merge joins what two sidecars say of the same thing: endpoints are counted by the one that sees it worst.
func (s State) merge(o State) State {
	return State{
		Ejected:  max(s.Ejected, o.Ejected),
		Members:  max(s.Members, o.Members),
		Healthy:  min(s.Healthy, o.Healthy),
		Breakers: s.Breakers + o.Breakers,
	}
}

// isEmpty says that nothing was counted.
func (s *Sample) isEmpty() bool {
	counts := []uint64{s.Requests(), s.GRPCFailed, s.Latency.Count(), s.Connections, s.Timeouts, s.TryTimeouts, s.Retries,
		s.Rescued, s.Unretried, s.Overflows, s.Aborted, s.Ejections, s.Detected, s.Streaks}
	return !slices.ContainsFunc(counts, func(n uint64) bool { return n > 0 })
}
