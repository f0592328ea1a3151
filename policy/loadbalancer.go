package policy

import (
	"math/big"
)

// LoadBalancer chooses among healthy endpoints.
type LoadBalancer struct {
	// The algorithm.
	Policy BalancePolicy `json:"policy,omitempty"`
	// What of a request decides its endpoint, with ring-hash and maglev; the first entry that a request has counts most. TCP connections go by the caller's address, whatever is written.
	HashOn []HashOn `json:"hashOn,omitempty"`
	// A new endpoint's share grows over this time; with round-robin and least-request.
	SlowStart *Duration `json:"slowStart,omitempty" range:"0s.."`
	// Whether endpoints in the caller's zone come first; by default as the Service's trafficDistribution says.
	Locality Locality `json:"locality,omitempty"`
	// With fewer than this share of endpoints healthy, all are used; 0 for never.
	PanicThreshold *Percent `json:"panicThreshold,omitempty"`
	// Size of the ring, with ring-hash.
	RingSize *RingSize `json:"ringSize,omitempty"`
	// Size of the table, a prime, with maglev.
	TableSize *uint64 `json:"tableSize,omitempty" range:"2..5000011"`
}

// RingSize bounds the number of points on the ring; more points spread the load more evenly and cost memory.
type RingSize struct {
	// At least this many points.
	Min *uint64 `json:"min,omitempty" range:"1..8388608"`
	// At most this many points.
	Max *uint64 `json:"max,omitempty" range:"1..8388608"`
}

// HashOn is one thing that a request is hashed on.
type HashOn struct {
	// Value of this request header.
	Header HeaderName `json:"header,omitempty"`
	// Value of a cookie; a response sets it where a request has none.
	Cookie *HashCookie `json:"cookie,omitempty"`
	// Value of this query parameter.
	Query string `json:"query,omitempty"`
	// The caller's address; written as true.
	SourceIP bool `json:"sourceIP,omitempty"`
	// A request that has this is not hashed on the entries after it.
	Terminal bool `json:"terminal,omitempty"`
}

// HashCookie is a cookie that keeps a client at one endpoint.
type HashCookie struct {
	// Name of the cookie.
	Name string `json:"name"`
	// Lifetime of a cookie that the mesh sets; 0s makes it a session cookie.
	TTL *Duration `json:"ttl,omitempty" range:"0s.."`
	// Path attribute of a cookie that the mesh sets.
	Path string `json:"path,omitempty"`
}

func (HashOn) oneOf() []string { return []string{"header", "cookie", "query", "sourceIP"} }

// BalancePolicy is a load balancing algorithm.
type BalancePolicy string

// The load balancing algorithms.
const (
	LeastRequest BalancePolicy = "least-request"
	RoundRobin   BalancePolicy = "round-robin"
	Random       BalancePolicy = "random"
	RingHash     BalancePolicy = "ring-hash"
	Maglev       BalancePolicy = "maglev"
)

func (BalancePolicy) words() []string {
	return []string{"least-request", "round-robin", "random", "ring-hash", "maglev"}
}

// Locality says whether endpoints near the caller come first.
type Locality string

// The values of locality.
const (
	LocalityPrefer Locality = "prefer"
	LocalityOff    Locality = "off"
)

func (Locality) words() []string { return []string{"prefer", "off"} }

func (lb *LoadBalancer) validate(at Path, p *problems) {
	hashes := lb.hashes()
	if !hashes && p.wrote(at.Field("hashOn")) {
		p.addKey(at.Field("hashOn"), CodeHashOn, "write policy: ring-hash or policy: maglev", "has no effect with %s", WithDefaults(*lb).Policy)
	}
	if hashes && !p.wrote(at.Field("hashOn")) {
		p.add(at.Field("policy"), CodeHashOn, "write hashOn, such as hashOn: [{header: x-user}]", "%s needs to know what of a request decides its endpoint", lb.Policy)
	}
	lb.option("slowStart", hashes || lb.Policy == Random, at, p)
	lb.option("ringSize", lb.Policy != RingHash, at, p)
	lb.option("tableSize", lb.Policy != Maglev, at, p)
	if lb.TableSize != nil && !new(big.Int).SetUint64(*lb.TableSize).ProbablyPrime(0) { // exact below 2^64
		p.add(at.Field("tableSize"), CodePrime, "write a prime such as 65537", "%d is not a prime", *lb.TableSize)
	}
}

// hashes says whether requests that are alike go to one endpoint.
func (lb *LoadBalancer) hashes() bool { return lb.Policy == RingHash || lb.Policy == Maglev }

// option refuses a key that is for other policies.
func (lb *LoadBalancer) option(key string, foreign bool, at Path, p *problems) {
	if foreign && p.wrote(at.Field(key)) {
		p.addKey(at.Field(key), CodePolicyOption, "leave it out, or choose another policy", "is not an option of %s", WithDefaults(*lb).Policy)
	}
}

func (r *RingSize) validate(at Path, p *problems) {
	if filled := WithDefaults(*r); *filled.Min > *filled.Max {
		p.add(at, CodeOrder, "write a max of at least min", "min %d is above max %d", *filled.Min, *filled.Max)
	}
}

func (c *HashCookie) validate(at Path, p *problems) {
	if c.Name != "" && !isToken(c.Name) {
		p.add(at.Field("name"), CodeHeader, "write letters, digits, - and _", "%q is not a cookie's name", clip(c.Name))
	}
	checkPath(c.Path, at.Field("path"), p)
}
