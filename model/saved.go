package model

// SavedPolicy is what outlives a restart of one policy document: the last version that was good, the versions that were
// not, and the Service that it protects. It is what makes a restarted or second control plane serve the same bytes.
type SavedPolicy struct {
	ConfigMap Key
	UID       string // of the ConfigMap; another UID means another ConfigMap, and this is void
	Item      string // the key in data
	Good      string // text of the last good version; empty if none was
	GoodHash  string
	Earlier   []SavedText // good versions before it, newest first: served if proxies refuse it
	Refused   []string    // hashes of versions that proxies refused, newest last, at most 10
	// Protects is the Service that an Access document names, as it is or was last, so that its pods stay closed when it is
	// deleted; nil if the document names none, or none that was ever there.
	Protects *SavedService
}

// SavedText is the text of a good version.
type SavedText struct{ Text, Hash string }

// SavedService is what tells which ports of which pods a Service leads to.
type SavedService struct {
	Name     string // in the namespace of the policy's ConfigMap
	Kind     ServiceKind
	Selector Labels
	Ports    []Port
}

// Empty says that there is nothing to keep, and what was saved under this ConfigMap and Item can be deleted.
func (p SavedPolicy) Empty() bool { return p.Good == "" && len(p.Refused) == 0 && p.Protects == nil }
