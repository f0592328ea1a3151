package model

// SavedPolicy is what outlives a restart of one policy document: the last version that was good, and the versions
// that were not. It is what makes a restarted or second control plane serve the same bytes.
type SavedPolicy struct {
	ConfigMap Key
	UID       string // of the ConfigMap; another UID means another ConfigMap, and this is void
	Item      string // the key in data
	Good      string // text of the last good version; empty if none was
	GoodHash  string
	Refused   []string // hashes of versions that proxies refused, newest last, at most 10
}
