package policy

// Source is the text of one document and where it comes from.
type Source struct {
	Text string
	// File that the text stands in, for messages; may be empty.
	File string
	// Line of File that the text begins in, from 1; 0 counts as 1.
	Line int
	// Column is how many columns the text is indented by in File, as in a block scalar.
	Column int
	// Pinned says that the text's lines are not those of File, because it stands there quoted or folded: every
	// problem is then shown at Line and Column, counted from 1.
	Pinned bool
	// Namespace of the ConfigMap; may be empty if it is not known.
	Namespace string
	// System says that this is, or may be, the control plane's own namespace, where Mesh documents are good.
	System bool
}

// place gives the place in File of a place in Text.
func (s Source) place(line, column int) (int, int) {
	if s.Pinned {
		return max(s.Line, 1), max(s.Column, 1)
	}
	return line + max(s.Line, 1) - 1, column + s.Column
}
