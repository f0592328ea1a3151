package wire

import (
	"encoding/json"
	"path/filepath"
)

// lookForSecrets looks, while everything still runs, into what each Envoy dumps, what the control plane counts and tells
// people, and every file but the CA's own. The logs are looked into when their writers have ended.
func (m *Mesh) lookForSecrets(dir string) {
	if n := m.scan.LookAtFiles(dir, filepath.Join(dir, "ca", "ca.json")); n < 2 { // one for certificates and one for tokens
		m.t.Errorf("the file of the CA holds %d keys", n)
	}
	for pod, s := range m.sidecars {
		m.scan.LookAtEnvoy(pod, s)
	}
	m.scan.LookAtMetrics(m.control.metrics)
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
