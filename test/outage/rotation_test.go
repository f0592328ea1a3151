package outage

import (
	"os"
	"testing"
	"time"
)

// soakVariable says for how long the load of a rotation goes on at least, and that the machine has nothing else to do.
const soakVariable = "HEDDLE_OUTAGE_LOAD"

// loadLasts says for how long the load of a rotation goes on at least, and how many requests of it must be answered in a
// second: where other tests run at the same time there is no such number.
func loadLasts(t *testing.T) (d time.Duration, least float64) {
	t.Helper()
	text := os.Getenv(soakVariable)
	if text == "" {
		return 20 * time.Second, 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", soakVariable, err)
	}
	return d, 0.9 * full
}

func TestNoRequestFailsWhileTheRootRotatesUnderLeavesOfTenSeconds(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: 10 * time.Second})
	lasts, least := loadLasts(t)
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
	if rate := load.finish(); rate < least {
		t.Errorf("%.1f requests per second were answered, want %.0f of %d at least", rate, least, full)
	}
}
