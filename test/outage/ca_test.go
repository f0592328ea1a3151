package outage

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/identity/keep"
	"github.com/heddle-mesh/heddle/test/certs"
	"github.com/heddle-mesh/heddle/test/traffic"
	"github.com/heddle-mesh/heddle/test/wait"
)

func TestNothingIsSignedWithoutTheCAAndTrafficGoesOn(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: time.Minute})
	load := m.web.load(t, traffic.Some)
	ask := m.client(m.certificate(t, time.Hour))
	file := filepath.Join(m.ca(), "ca.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	old := m.signer()
	for _, fault := range []struct {
		code keep.Code
		make func() error
	}{
		{keep.Missing, func() error { return os.Remove(file) }},
		{keep.Corrupt, func() error { return os.WriteFile(file, good[:len(good)/2], 0o600) }},
		{keep.Corrupt, func() error { return os.WriteFile(file, nil, 0o600) }},
		{keep.Mismatch, func() error { return os.WriteFile(file, otherCA(t), 0o600) }},
		{keep.Exposed, func() error { return os.Chmod(file, 0o644) }},
	} {
		if err := fault.make(); err != nil {
			t.Fatal(err)
		}
		m.keeper().Wake()
		eventually(t, "nothing is signed: "+string(fault.code), func() bool { return keep.CodeOf(m.keeper().Ready()) == fault.code })
		var refused *client.Error
		if err := sign(t, ask); !errors.As(err, &refused) || refused.Code != string(fault.code) {
			t.Errorf("with %s the signer says %v", fault.code, err)
		} else {
			t.Logf("%s: %v", fault.code, err)
		}
		load.More(time.Second)

		replace(t, file, good)
		begin := time.Now()
		eventually(t, "it signs again", func() bool { return m.keeper().Ready() == nil })
		took := time.Since(begin)
		if err := sign(t, ask); err != nil || took > 10*time.Second {
			t.Errorf("%v after the CA was restored: %v", took, err)
		}
		t.Logf("signed again %v after the CA was restored", took.Round(time.Millisecond))
	}
	if m.signer() != old {
		t.Error("there is another CA")
	}
	load.Finish()
}

func TestANewRootIsMadeOnlyWhenToldTo(t *testing.T) {
	t.Parallel()
	m := start(t, options{leaf: time.Minute})
	old := m.signer()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := m.keeper().Recover(ctx); err == nil {
		t.Fatal("a CA that is there was given up")
	}
	file := filepath.Join(m.ca(), "ca.json")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	load := m.web.load(t, traffic.Some)
	for range 2 { // what runs, and what starts
		eventually(t, "nothing is signed", func() bool {
			m.keeper().Wake()
			return keep.CodeOf(m.keeper().Ready()) == keep.Missing
		})
		load.More(time.Second)
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("there is a CA: %v", err)
		}
		m.stop()
		m.serve()
	}
	load.Finish()

	if err := m.keeper().Recover(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is a new CA", func() bool { return m.keeper().Ready() == nil })
	if m.signer() == old {
		t.Error("the old one is back")
	}
	for _, p := range []*pod{m.web, m.shop} {
		p.stop()
		m.open(p)
		p.wait(t)
		p.wantSignedBy(t, m.keeper(), m.signer())
	}
	eventually(t, "the pods reach each other", func() bool {
		return traffic.Get(traffic.Client(traffic.HTTP1), "http://"+m.web.service(portHTTP)+"/") == nil
	})
}

// client asks the signer as somebody with that certificate.
func (m *town) client(c *tls.Certificate) *client.Client {
	return client.New(client.Options{
		Address: m.mesh.Load().Signer().Address(), Signer: m.mesh.Load().Signer().ID(),
		Bundle: func() (*spiffebundle.Bundle, error) {
			b, _, err := m.keeper().Bundle()
			return b, err
		},
		Certificate: func() *tls.Certificate { return c },
	})
}

// sign asks for a certificate.
func sign(t *testing.T, c *client.Client) error {
	t.Helper()
	_, csr := certs.Request(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := c.SVID(ctx, "", csr)
	return err
}

// otherCA is the file of a CA of another mesh.
func otherCA(t *testing.T) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	k, err := keep.InDirectory(keep.Options{TrustDomain: domain()}, dir)
	if err != nil {
		t.Fatal(err)
	}
	stop := wait.Background(t, "another CA", k.Run)
	eventually(t, "another CA is there", func() bool { return k.Ready() == nil })
	stop()
	text, err := os.ReadFile(filepath.Join(dir, "ca.json"))
	if err != nil || !json.Valid(text) {
		t.Fatalf("read another CA: %v", err)
	}
	return text
}
