package outage

import (
	"cmp"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/test/traffic"
)

func TestNoRequestFailsWhileTheRootRotatesUnderLeavesOfTenSeconds(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: 10 * time.Second})
	lasts, least := traffic.Soak(t)
	lasts = cmp.Or(lasts, 20*time.Second)
	load := m.web.load(t, traffic.Full)
	load.More(lasts / 3)

	old := m.signer()
	begin := time.Now()
	m.rotate(nil)
	m.rotated(old)
	t.Logf("the rotation took %v", time.Since(begin).Round(time.Millisecond))

	for _, p := range []*pod{m.web, m.shop} {
		p.wantSignedBy(t, m.keeper(), m.signer())
	}
	load.More(max(lasts/10, lasts-load.Since()))
	if rate := load.Finish(); rate < least {
		t.Errorf("%.1f requests per second were answered, want %.0f of %d at least", rate, least, traffic.Full)
	}
}
