package sidecar

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/rs/zerolog"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/injector/bootstrap"
	"github.com/heddle-mesh/heddle/test/transcript"
	"github.com/heddle-mesh/heddle/test/wait"
)

func TestASecretThatEnvoyRefusesChangesNothingAndTheNextGoodOneIsTaken(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	dir, log := shortDir(t), &transcript.Buffer{}
	e := newEnvoy(t, dir)
	o := options(t, s, dir)
	o.Proxy, o.Log = e, zerolog.New(log)
	a := run(t, o)
	wait.Until(t, patience, "a request goes through", func() bool { return get(e.plain) == nil })
	s.WaitTaken()
	held := shown(t, a, e.mtls).PeerCertificates[0].SerialNumber

	c, _, _ := a.held.Current()
	other := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(must(newKey())))})
	certificate := func(chain, key []byte) *tlsv3.Secret {
		return &tlsv3.Secret{Name: bootstrap.CertificateSecret, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(chain), PrivateKey: inline(key),
		}}}
	}
	refused := 0
	for name, bad := range map[string]*tlsv3.Secret{
		"no PEM":         certificate([]byte("nonsense"), must(c.KeyPEM())),
		"a cut off key":  certificate(identity.CertificatesPEM(c.Chain()), must(c.KeyPEM())[:100]),
		"an unfit key":   certificate(identity.CertificatesPEM(c.Chain()), other),
		"another secret": {Name: bootstrap.CertificateSecret, Type: &tlsv3.Secret_GenericSecret{GenericSecret: &tlsv3.GenericSecret{Secret: &corev3.DataSource{}}}},
	} {
		if err := a.sds.Set(name, bad); err != nil {
			t.Fatal(err)
		}
		refused++
		wait.Until(t, patience, name+" is refused", func() bool { return a.sds.Refused()[bootstrap.CertificateSecret] == refused })
		if err := get(e.plain); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
		if got := shown(t, a, e.mtls).PeerCertificates[0].SerialNumber; got.Cmp(held) != 0 {
			t.Errorf("after %s another certificate is shown", name)
		}
	}
	if got := strings.Count(log.String(), "Envoy refuses a secret and keeps the one it had"); got != refused {
		t.Errorf("%d refusals, %d lines in the log", refused, got)
	}
	noSecrets(t, a, "the agent's log", log.String())

	a.held.Renew()
	wait.Until(t, patience, "the next good certificate is shown", func() bool {
		return shown(t, a, e.mtls).PeerCertificates[0].SerialNumber.Cmp(held) != 0
	})
	// Envoy refuses bundles as long as it has a key that does not match; it has none.
	next := must(identity.NewRoot(domain(), time.Now(), 0))
	s.Trust(must(identity.Merge(s.CA().Bundle(), next.Bundle())))
	s.WaitTaken()
}

func TestEnvoyWaitsForItsSecretsHoweverLateTheyCome(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	s.SetAway(errAway)
	dir := shortDir(t)
	e := newEnvoy(t, dir)
	// This Envoy starts before the agent has an identity, unlike one that the agent starts.
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	wait.Until(t, patience, "Envoy runs", func() bool { _, err := e.admin(t.Context(), "/server_info"); return err == nil })
	a := run(t, options(t, s, dir))
	wait.Until(t, patience, "Envoy has asked", func() bool { return a.sds.Taken(bootstrap.BundleSecret) == identity.Fingerprint(s.Trusted()) })
	if err := get(e.plain); err == nil {
		t.Error("a request goes through without an identity")
	}
	if c, err := net.Dial("tcp", e.mtls); err == nil { // bound or not, it must not speak
		c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nhost: x\r\n\r\n")
		if text, _ := io.ReadAll(c); bytes.Contains(text, []byte("hello")) {
			t.Error("it answers in plain text")
		}
		c.Close()
	}
	s.SetAway(nil)
	wait.Until(t, patience, "a request goes through", func() bool { return get(e.plain) == nil })
}

// idle is a proxy that runs until it is told to end, or to fail.
type idle struct {
	started chan struct{}
	fail    chan error
}

func newIdle() *idle { return &idle{make(chan struct{}), make(chan error, 1)} }

func (p *idle) Run(ctx context.Context) error {
	close(p.started)
	select {
	case <-ctx.Done():
		return nil
	case err := <-p.fail:
		return err
	}
}

func (p *idle) Ready(context.Context) error { return nil }

func TestWithoutTheSignerTheAgentSaysWhyOncePerReasonAndStartsNoEnvoy(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	s.SetAway(errors.New("dial tcp 10.0.0.1:15010: connection refused, attempt 1"))
	o, log, p := options(t, s, shortDir(t)), &transcript.Buffer{}, newIdle()
	o.Ready = "unix:" + filepath.Join(filepath.Dir(o.SDS), "ready.sock")
	o.Log, o.Proxy = zerolog.New(log), p
	run(t, o)
	more := func(n int) {
		t.Helper()
		before := len(s.Asked())
		wait.Until(t, patience, "more attempts", func() bool { return len(s.Asked()) >= before+n })
	}
	more(2)
	status, code := readyz(t, o.Ready)
	if code != http.StatusServiceUnavailable || !strings.Contains(strings.Join(status.Reasons, " "), "connection refused") {
		t.Errorf("readiness: %d %+v", code, status)
	}
	s.SetAway(errors.New("dial tcp 10.0.0.1:15010: connection refused, attempt 2"))
	more(2)
	s.SetAway(errors.New("token-expired: its time is over"))
	more(2)
	select {
	case <-p.started:
		t.Error("Envoy is started without an identity")
	default:
	}
	if got := strings.Count(log.String(), `"errand":"get a certificate"`); got != 2 {
		t.Errorf("%d lines for two reasons: %s", got, log)
	}
	s.SetAway(nil)
	<-p.started
	wait.Until(t, patience, "it is ready", func() bool { status, code = readyz(t, o.Ready); return code == http.StatusOK && status.Ready })
	if status.ID != s.ID.String() || status.Bundle != identity.Fingerprint(s.Trusted()) || status.Expires == nil {
		t.Errorf("readiness: %+v", status)
	}
	wait.Until(t, patience, "the log says that it is over", func() bool { return strings.Contains(log.String(), "works again") })
	if strings.Contains(log.String(), secretToken) {
		t.Errorf("the log: %s", log)
	}
}

func readyz(t *testing.T, address string) (Status, int) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(address, "unix:"))
	}}}
	r := must(c.Get("http://agent/readyz"))
	defer r.Body.Close()
	var s Status
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s, r.StatusCode
}

func TestAnEnvoyThatEndsEndsTheAgentWithItsError(t *testing.T) {
	s, p := newSigner(t, "web", time.Hour), newIdle()
	o := options(t, s, shortDir(t))
	o.Proxy = p
	a := must(New(o))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	<-p.started
	p.fail <- errors.New("exit status 7")
	wantError(t, <-ended, "exit status 7")
	if _, err := os.Stat(o.SDS); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestSocketsAreForWhomTheyAreFor(t *testing.T) {
	s := newSigner(t, "web", time.Hour)
	o := options(t, s, shortDir(t))
	o.WorkloadAPI, o.WorkloadMode = filepath.Join(filepath.Dir(o.SDS), "api.sock"), 0o666
	run(t, o)
	for path, want := range map[string]os.FileMode{o.SDS: 0o600, o.WorkloadAPI: 0o666} {
		wait.Until(t, patience, "the mode of "+path, func() bool { st, err := os.Stat(path); return err == nil && st.Mode().Perm() == want })
	}

	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := listenPrivate(filepath.Join(open, "s"))
	wantError(t, err, "use a directory with mode 0700")
	_, err = listenUnix(o.SDS, 0o600)
	wantError(t, err, "another process serves it")
	writeFile(t, filepath.Join(open, "file"), nil)
	_, err = listenUnix(filepath.Join(open, "file"), 0o600)
	wantError(t, err, "is no socket")

	stale := filepath.Join(shortDir(t), "s")
	l := must(net.ListenUnix("unix", &net.UnixAddr{Name: stale}))
	l.SetUnlinkOnClose(false)
	l.Close()
	if l, err := listenUnix(stale, 0o600); err != nil {
		t.Error("a socket left behind:", err)
	} else {
		l.Close()
	}
}
