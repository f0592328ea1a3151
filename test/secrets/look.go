package secrets

import (
	"bytes"
	"context"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/test/transcript"
)

// patience is how long an Envoy may take to tell all that it has.
const patience = 30 * time.Second

// Log gives a logger whose lines are shown only if the test fails, and which must not have a secret in them.
func (s *Scan) Log(who string) zerolog.Logger {
	log, _ := s.Transcript(who)
	return log
}

// Transcript is Log with what it has logged so far, for people, without colours.
func (s *Scan) Transcript(who string) (zerolog.Logger, *transcript.Buffer) {
	w := &transcript.Buffer{}
	s.t.Cleanup(func() {
		text := w.String()
		s.Look("the log of "+who, []byte(text))
		if s.t.Failed() {
			s.t.Logf("log of %s:\n%s", who, text)
		}
	})
	return zerolog.New(zerolog.ConsoleWriter{Out: w, NoColor: true, TimeFormat: "15:04:05.000"}).With().Timestamp().Logger(), w
}

// Envoy is one that runs, with its certificate.
type Envoy interface {
	Get(ctx context.Context, path string) ([]byte, error) // from its admin interface
}

// LookAtEnvoy looks into all that the Envoy of a pod tells.
func (s *Scan) LookAtEnvoy(pod string, e Envoy) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // a test's own has ended when it cleans up
	defer cancel()
	redacted := false
	for _, path := range []string{"/config_dump?include_eds", "/certs", "/clusters", "/listeners", "/server_info", "/stats"} {
		text, err := e.Get(ctx, path)
		if err != nil {
			s.t.Errorf("look for secrets in the Envoy of %s: %v", pod, err)
			return
		}
		// In base64, as all bytes are in dumps: "[redacted]".
		redacted = redacted || bytes.Contains(text, []byte("W3JlZGFjdGVkXQ=="))
		s.Look(path+" of the Envoy of "+pod, text)
	}
	if !redacted {
		s.t.Errorf("the Envoy of %s dumps no place of a key at all, so that looking at it shows nothing", pod)
	}
}

// LookAtMetrics looks into what a control plane counts, as Prometheus is told it.
func (s *Scan) LookAtMetrics(metrics prometheus.Gatherer) {
	s.t.Helper()
	told := httptest.NewRecorder()
	promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}).ServeHTTP(told, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if told.Code != http.StatusOK || told.Body.Len() == 0 {
		s.t.Errorf("look for secrets in /metrics: %d, %d bytes", told.Code, told.Body.Len())
	}
	s.Look("/metrics of the control plane", told.Body.Bytes())
}

// LookAtFiles looks into all files below a directory but the CA's own, which is the one that may hold keys, and gives
// how many keys that taught it.
func (s *Scan) LookAtFiles(dir, ca string) (keys int) {
	s.t.Helper()
	text, err := os.ReadFile(ca)
	if err != nil {
		s.t.Errorf("learn the CA's keys: %v", err)
	}
	keys = s.KnowKeys(text)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || path == ca {
			return err
		}
		text, err := os.ReadFile(path)
		s.Look("the file "+path, text)
		return err
	})
	if err != nil {
		s.t.Errorf("look for secrets in files: %v", err)
	}
	return keys
}
