package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// lookForSecrets looks, while everything still runs, into what each Envoy dumps, what the control plane counts and tells
// people, and every file but the CA's own. The logs are looked into when their writers have ended.
func (m *Mesh) lookForSecrets(dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m.lookIntoFiles(dir)
	for pod, s := range m.sidecars {
		redacted := false
		for _, path := range []string{"/config_dump?include_eds", "/certs", "/clusters", "/listeners", "/server_info", "/stats"} {
			text, err := s.Get(ctx, path)
			if err != nil {
				m.t.Errorf("look for secrets in the Envoy of %s: %v", pod, err)
				continue
			}
			// In base64, as all bytes are in dumps: "[redacted]".
			redacted = redacted || bytes.Contains(text, []byte("W3JlZGFjdGVkXQ=="))
			m.scan.Look(path+" of the Envoy of "+pod, text)
		}
		if !redacted {
			m.t.Errorf("the Envoy of %s dumps no place of a key at all, so that looking at it shows nothing", pod)
		}
	}
	metrics := httptest.NewRecorder()
	promhttp.HandlerFor(m.control.metrics, promhttp.HandlerOpts{}).ServeHTTP(metrics, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	m.scan.Look("/metrics of the control plane", metrics.Body.Bytes())
	facts, err := m.control.mesh.Signer().Facts()
	if err != nil {
		m.t.Errorf("look for secrets in what people are told: %v", err)
		return
	}
	text, err := json.Marshal(facts)
	if err != nil {
		m.t.Errorf("look for secrets in what people are told: %v", err)
	}
	m.scan.Look("what people are told of identities", text)
}

// lookIntoFiles learns the CA's keys from the one file that may hold them, and looks into all others.
func (m *Mesh) lookIntoFiles(dir string) {
	ca := filepath.Join(dir, "ca", "ca.json")
	text, err := os.ReadFile(ca)
	if err != nil {
		m.t.Errorf("learn the CA's keys: %v", err)
	}
	if n := m.scan.KnowKeys(text); n < 2 { // one for certificates and one for tokens
		m.t.Errorf("the file of the CA holds %d keys", n)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || path == ca {
			return err
		}
		text, err := os.ReadFile(path)
		m.scan.Look("the file "+path, text)
		return err
	})
	if err != nil {
		m.t.Errorf("look for secrets in files: %v", err)
	}
}
