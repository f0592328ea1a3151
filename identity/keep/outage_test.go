package keep

import (
	"testing"

	kubetest "github.com/heddle-mesh/heddle/test/kubernetes"
)

// A leader that cannot renew its Lease cannot know whether it still leads, so it signs nothing; attestation could not
// ask the API server anyway. What peers are verified with stays, and all heals by itself.
func TestAnAPIServerThatGoesAwayEndsSigningAndNothingElse(t *testing.T) {
	own := kubetest.New() // nobody else's tests stand on it
	t.Cleanup(own.Close)
	s := &signers{t: t, client: own.Client(t), namespace: own.Namespace(t)}
	k := s.start("signer-0")
	first := k.ready()
	bundle := k.Progress().Generation

	own.Kill(t)
	eventually(t, "it notices that it cannot know whether it leads", func() bool { return CodeOf(k.Ready()) == NotLeading })
	if _, _, err := k.Bundle(); err != nil {
		t.Errorf("peers cannot be verified any more: %v", err)
	}

	own.Resume(t)
	if got := k.ready(); got != first || k.Progress().Generation != bundle {
		t.Errorf("the CA is %s with bundle %s after the outage", got, k.Progress().Generation)
	}
}
