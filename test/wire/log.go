package wire

import (
	"bytes"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/test/secrets"
)

// logTo gives a logger whose lines are shown only if the test fails, and which must not have a secret in them.
func logTo(t testing.TB, scan *secrets.Scan, who string) zerolog.Logger {
	b := &buffer{}
	t.Cleanup(func() {
		scan.Look("the log of "+who, []byte(b.String()))
		if t.Failed() {
			t.Logf("log of %s:\n%s", who, b.String())
		}
	})
	return zerolog.New(zerolog.ConsoleWriter{Out: b, NoColor: true, TimeFormat: "15:04:05.000"}).With().Timestamp().Logger()
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
