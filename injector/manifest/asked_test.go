package manifest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Nothing in a text tells who wrote the word, so where it was before, inject and uninject give what is left without it.
func TestAWordThatWasThereBeforeIsLeftByInjectAndTakenOutByUninject(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata:\n"
	const rest = "  name: web\nspec:\n  containers: [{name: web, image: web}]\n"
	for name, c := range map[string]struct{ in, want string }{
		"among others": {
			pod + "  annotations:\n    team: shop\n    heddle.dev/inject: enabled\n    tier: web\n" + rest,
			pod + "  annotations:\n    team: shop\n    tier: web\n" + rest,
		},
		"alone: the mapping goes with it": {
			pod + "  annotations:\n    heddle.dev/inject: enabled\n" + rest,
			pod + rest,
		},
		"quoted, with a comment behind it, which goes too": {
			pod + "  annotations:\n    # of the shop\n    team: shop\n    heddle.dev/inject: \"enabled\" # we asked\n" + rest,
			pod + "  annotations:\n    # of the shop\n    team: shop\n" + rest,
		},
		"in braces": {
			pod + "  annotations: {team: shop, heddle.dev/inject: enabled}\n" + rest,
			pod + "  annotations: {team: shop}\n" + rest,
		},
		"as kubectl prints it": {
			"apiVersion: v1\nkind: Namespace\nmetadata:\n  labels:\n    heddle.dev/inject: enabled\n    kubernetes.io/metadata.name: shop\n  name: shop\n",
			"apiVersion: v1\nkind: Namespace\nmetadata:\n  labels:\n    kubernetes.io/metadata.name: shop\n  name: shop\n",
		},
		"another word is nobody's but its author's": {
			pod + "  annotations:\n    heddle.dev/inject: disabled\n" + rest,
			pod + "  annotations:\n    heddle.dev/inject: disabled\n" + rest,
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, _, err := injected([]byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.in, string(out)); diff != "" {
				t.Errorf("asked for once more (-before +after):\n%s", diff)
			}
			back, _, err := uninjected(out)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(back)); diff != "" {
				t.Errorf("taken out (-want +got):\n%s", diff)
			}
		})
	}
}
