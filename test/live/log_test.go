package live

import (
	"bytes"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/test/secrets"
)

// transcript keeps what somebody said, which must be no secret, and shows it if the test fails.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func newTranscript(t testing.TB, scan *secrets.Scan, who string) *transcript {
	s := &transcript{}
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		scan.Look("the log of "+who, s.text.Bytes())
		if t.Failed() {
			t.Logf("log of %s:\n%s", who, s.text.String())
		}
	})
	return s
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) logger() zerolog.Logger {
	return zerolog.New(zerolog.ConsoleWriter{Out: s, NoColor: true, TimeFormat: "15:04:05"}).With().Timestamp().Logger()
}

// count is how often words were said.
func (s *transcript) count(words string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Count(s.text.Bytes(), []byte(words))
}
