package loopback

import "testing"

func TestNetworksAreTakenOnceUntilTheTestEnds(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		n := Reserve(t).String()
		if seen[n] {
			t.Errorf("network %s was handed out twice", n)
		}
		seen[n] = true
	}
	t.Run("given back", func(t *testing.T) {
		for range 2 * (last - first) {
			t.Run("again", func(t *testing.T) { Reserve(t) })
		}
	})
}
