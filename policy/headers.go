package policy

// HeaderChange sets, adds and removes headers, in that order. Values are taken as they are.
type HeaderChange struct {
	// Headers that have this value afterwards, whatever they had.
	Set map[HeaderName]string `json:"set,omitempty"`
	// Values that are added to those already there.
	Add map[HeaderName]string `json:"add,omitempty"`
	// Headers that are taken away.
	Remove []HeaderName `json:"remove,omitempty"`
}
