package outage

import (
	"os"
	"testing"
	"time"
)

// loadLasts says for how long the load of a rotation goes on at least.
func loadLasts(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("HEDDLE_OUTAGE_LOAD")
	if text == "" {
		return 20 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("HEDDLE_OUTAGE_LOAD: %v", err)
	}
	return d
}

func TestNoRequestFailsWhileTheRootRotatesUnderLeavesOfTenSeconds(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: 10 * time.Second})
	lasts := loadLasts(t)
	load := m.web.load(t, full)
	load.more(lasts / 3)

	old := m.signer()
	begin := time.Now()
	m.rotate(nil)
	m.rotated(old)
	t.Logf("the rotation took %v", time.Since(begin).Round(time.Millisecond))

	for _, p := range []*pod{m.web, m.shop} {
		p.wantSignedBy(t, m.keeper(), m.signer())
	}
	load.more(max(lasts/10, lasts-time.Since(load.begin)))
	load.finish()
}
