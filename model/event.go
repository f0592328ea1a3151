package model

// Event is one change of a fact. Exactly one of the pointers is set; with Gone, only its Key counts.
// Synced is set alone: the source has now said everything that it knew at its start.
type Event struct {
	Gone      bool
	Synced    bool
	Service   *Service
	Slice     *Slice
	Pod       *Pod
	Namespace *Namespace
	Node      *Node
	Policy    *PolicyText
	Health    *HealthReport
	Refused   *Refusal
}

// Refusal says that proxies rejected what a version of a policy was translated to, so that this version counts
// as not good and the last good one is served in its place.
type Refusal struct {
	Policy Key
	Item   string
	Hash   string // of the refused document, or of the part of it that an Origin names
	Reason string // what the proxy said
}
