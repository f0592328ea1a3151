package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"

	"go.yaml.in/yaml/v3"
)

// contentHash identifies what a node says, however it is laid out.
func contentHash(n *yaml.Node) string {
	h := sha256.New()
	hashInto(h, n)
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// hashInto writes n so that two nodes give the same bytes only if they say the same: sizes come before contents.
func hashInto(h hash.Hash, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		pairs := slices.Collect(slices.Chunk(n.Content, 2))
		slices.SortStableFunc(pairs, func(a, b []*yaml.Node) int { return cmp.Compare(a[0].Value, b[0].Value) })
		fmt.Fprintf(h, "m%d:", len(pairs))
		for _, pair := range pairs {
			hashInto(h, pair[0])
			hashInto(h, pair[1])
		}
	case yaml.SequenceNode:
		fmt.Fprintf(h, "l%d:", len(n.Content))
		for _, c := range n.Content {
			hashInto(h, c)
		}
	default: // an alias is refused elsewhere, and not followed here
		fmt.Fprintf(h, "%s%d:%s", n.Tag, len(n.Value), n.Value)
	}
}
