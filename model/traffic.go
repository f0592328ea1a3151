package model

import "time"

// Field names a part of a policy that can be set, defaulted and lost in a conflict by itself; it is the key that
// a person writes, such as "timeout" or "circuitBreaker".
type Field string

// Traffic is how callers reach a Service, with defaults filled in and every reference resolved.
// Durations of 0 mean none: the mesh adds no limit that nobody asked for.
type Traffic struct {
	Timeout        time.Duration // whole request, retries included
	IdleTimeout    time.Duration // no bytes in either direction, of a stream or a TCP connection
	Retries        *Retries      // nil: nothing is retried
	Budget         *RetryBudget  // of the Service; nil without retries or with CircuitBreaker.MaxRetries
	CircuitBreaker CircuitBreaker
	Outlier        *OutlierDetection
	HealthCheck    *HealthCheck
	LoadBalancer   LoadBalancer
	Connection     Connection
	// Routes as written, in order; a request that matches none goes to the Service itself. Their targets are not
	// resolved: translate OutboundPort.Routes instead.
	Routes  []Route
	Origins map[Field]Origin
}

// Origin gives the provenance of a field, zero if it is a default.
func (t *Traffic) Origin(f Field) Origin { return t.Origins[f] }

// Retries repeats failed requests.
type Retries struct {
	Attempts      uint32        // further tries after the first
	PerTryTimeout time.Duration // 0: what is left of the request's timeout
	On            []Condition   // what counts as failure
	Statuses      []uint32      // HTTP status codes that count too
	Methods       []string      // empty: all methods
	BackOffBase   time.Duration
	BackOffMax    time.Duration
}

// Condition is a class of failure that can be retried, in the words of the policy language.
type Condition string

const (
	OnConnectFailure Condition = "connect-failure" // no connection to the application, also if its sidecar says so
	OnRefusedStream  Condition = "refused-stream"  // HTTP/2 REFUSED_STREAM: not processed
	OnReset          Condition = "reset"           // connection or stream ended before a response began
	On5xx            Condition = "5xx"             // any 5xx, and all of the above
	OnGatewayError   Condition = "gateway-error"   // 502, 503, 504
	OnRetriable4xx   Condition = "retriable-4xx"   // 409
	// gRPC statuses.
	OnCancelled         Condition = "cancelled"
	OnDeadlineExceeded  Condition = "deadline-exceeded"
	OnInternal          Condition = "internal"
	OnResourceExhausted Condition = "resource-exhausted"
	OnUnavailable       Condition = "unavailable"
)

// RetryBudget holds retries to a share of active requests; counted per sidecar and Service.
type RetryBudget struct {
	Percent        float64
	MinConcurrency uint32
}

// CircuitBreaker bounds what one sidecar sends to a Service at once. 0 means no bound.
type CircuitBreaker struct {
	MaxConnections            uint32
	MaxPendingRequests        uint32
	MaxRequests               uint32
	MaxRetries                uint32
	MaxConnectionsPerEndpoint uint32
}

// OutlierDetection takes failing endpoints out of one caller's list for a while. Counts of 0 switch a detector off.
type OutlierDetection struct {
	Consecutive5xx           uint32
	ConsecutiveGatewayErrors uint32
	ConsecutiveLocalOrigin   uint32 // connection failures and resets, apart from responses
	SuccessRate              *SuccessRate
	Interval                 time.Duration
	BaseEjection             time.Duration
	MaxEjection              time.Duration
	MaxEjectionPercent       uint32
}

// SuccessRate ejects endpoints whose success rate is StdevFactor standard deviations below the mean.
type SuccessRate struct {
	MinimumHosts  uint32
	RequestVolume uint32
	StdevFactor   float64
}

// HealthCheck is an active check of the application by its own sidecar.
type HealthCheck struct {
	Kind               CheckKind
	Port               uint16 // Service port in a policy's view, the pod's port in a Workload
	Path               string // HTTP
	Host               string // HTTP, optional
	GRPCService        string // gRPC, optional
	Interval           time.Duration
	Timeout            time.Duration
	UnhealthyThreshold uint32
	HealthyThreshold   uint32
	Statuses           []StatusRange // HTTP; empty for 200
	Origin             Origin
}

// CheckKind is how a health check asks.
type CheckKind uint8

const (
	CheckHTTP CheckKind = iota
	CheckGRPC
	CheckTCP
)

// StatusRange is the HTTP statuses First to Last, both included.
type StatusRange struct{ First, Last uint32 }

// LoadBalancer chooses among healthy endpoints.
type LoadBalancer struct {
	Policy           BalancePolicy
	HashOn           []HashOn      // ring-hash and maglev
	SlowStart        time.Duration // round-robin and least-request; 0 for none
	Panic            *float64      // percent of healthy endpoints under which all are used; nil: never
	RingMin, RingMax uint64        // ring-hash; 0 for Envoy's
	TableSize        uint64        // maglev, a prime; 0 for Envoy's
}

// BalancePolicy is a load balancing algorithm.
type BalancePolicy uint8

const (
	LeastRequest BalancePolicy = iota
	RoundRobin
	Random
	RingHash
	Maglev
)

// HashOn is one source of the hash that ring-hash and maglev use; one of the names is set, or SourceIP.
type HashOn struct {
	Header     string
	Cookie     string
	CookieTTL  time.Duration // 0: a session cookie
	CookiePath string
	Query      string
	SourceIP   bool
	Terminal   bool // if this one gives a hash, later ones are not looked at
}

// Connection is how connections to endpoints are made.
type Connection struct {
	ConnectTimeout time.Duration
	Keepalive      *Keepalive
	MaxRequests    uint32 // per connection; 0 for no bound
	HTTP           HTTPVersion
}

// Keepalive is TCP keepalive; zero fields are the system's defaults.
type Keepalive struct {
	Probes   uint32
	Time     time.Duration
	Interval time.Duration
}

// HTTPVersion is what the application is spoken to with.
type HTTPVersion uint8

const (
	HTTPAuto HTTPVersion = iota // as the port declares, or as the caller spoke
	HTTPVersion1
	HTTPVersion2
)
