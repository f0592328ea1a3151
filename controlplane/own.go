package controlplane

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/client"
	"github.com/heddle-mesh/heddle/identity/hold"
	"github.com/heddle-mesh/heddle/identity/service"
)

// ownOptions say whom a server asks for its identity. All but InUse are required.
type ownOptions struct {
	TrustDomain spiffeid.TrustDomain
	Namespace   string // the control plane's own
	Signer      string // host:port
	TokenFile   string
	BundleFile  string
	InUse       func(*own) hold.InUse // says which bundle others use to know this server; nil: that is no matter
	Lifetime    time.Duration         // of certificates, as this process was told; 0: identity.DefaultLifetime
	Registry    prometheus.Registerer
	Log         zerolog.Logger
}

// own is the identity of a server that gets it from a signer in another process: a certificate for its door, as a
// sidecar has one, and one with DNS names for those who know it by these.
type own struct {
	names   []string
	id      spiffeid.ID
	holder  *hold.Holder
	client  *client.Client
	serving identity.Current
	log     zerolog.Logger

	lifetime, signers time.Duration // of certificates: as this process was told, and as the signer last said
}

func newOwn(o ownOptions) (*own, error) {
	w := &own{
		names: ServingNames(o.Namespace), log: o.Log.With().Str("component", "identity").Logger(),
		lifetime: cmp.Or(o.Lifetime, identity.DefaultLifetime),
	}
	w.signers = w.lifetime
	signer, err := identity.ID(o.TrustDomain, o.Namespace, SignerAccount)
	if err != nil {
		return nil, err
	}
	if w.id, err = identity.ID(o.TrustDomain, o.Namespace, ServerAccount); err != nil {
		return nil, err
	}
	holding := hold.Options{
		ID: w.id, TokenFile: o.TokenFile, BundleFile: o.BundleFile, With: w.getServing, Log: w.log,
		Connect: func(t hold.Trust) hold.Signer {
			w.client = client.New(client.Options{Address: o.Signer, Signer: signer, Bundle: t.Bundle, Certificate: t.Certificate})
			return w.client
		},
	}
	if o.InUse != nil {
		holding.InUse = o.InUse(w)
	}
	if w.holder, err = hold.New(holding); err != nil {
		return nil, fmt.Errorf("prepare to get an identity from the signer: %w", err)
	}
	registerExpiry(o.Registry, w.expiry)
	return w, nil
}

// getServing gets the certificate with DNS names, each time that the other one is got: so they are by the same CA, and
// what the signer hears of one holds for both.
func (w *own) getServing(ctx context.Context, token string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key for %s: %w", w.names[0], err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("make a certificate request for %s: %w", w.names[0], err)
	}
	got, err := w.client.Serving(ctx, token, csr, w.names)
	if err != nil {
		return err
	}
	if err := got.Chain[0].VerifyHostname(w.names[0]); err != nil {
		return fmt.Errorf("check the certificate that the signer issued: %w", err)
	}
	w.serving.Set(identity.Pair(key, got.Chain))
	w.compare(got.Lifetime)
	return nil
}

// compare says once if the signer makes certificates of another life than this server was told: by that it decides how old
// connections between sidecars may become. It is called by one goroutine.
func (w *own) compare(signers time.Duration) {
	if signers == 0 || signers == w.signers {
		return
	}
	w.signers = signers
	if signers == w.lifetime {
		w.log.Info().Dur("lifetime", signers).Msg("the signer's --certificate-lifetime is this server's again")
		return
	}
	w.log.Warn().Stringer("signer", signers).Stringer("server", w.lifetime).
		Stringer("connections_are_replaced_after", ConnectionAge(w.lifetime)).Stringer("and_should_be_after", ConnectionAge(signers)).
		Msg("this server's --certificate-lifetime is not the signer's; give both the same (HEDDLE_CERTIFICATE_LIFETIME; certificateLifetime of the chart) and restart them")
}

func (w *own) expiry() float64 {
	c, _, _ := w.holder.Current()
	if c == nil {
		return 0
	}
	return float64(c.Expires().Unix())
}

// ready says why nobody can be served by a certificate of this server; nil: everybody can.
func (w *own) ready() error {
	c, _, _ := w.holder.Current()
	why := ""
	switch {
	case c == nil:
		why = "there is no certificate yet"
	case !time.Now().Before(c.Expires()):
		why = "the certificate has expired"
	default:
		return nil
	}
	return errors.New(strings.Join(append([]string{why}, w.holder.Faults()...), "\n"))
}

// door is the server's side of a [Door].
func (w *own) door() *tls.Config { return identity.Server(w.certificate, w.holder.Bundle) }

// certificate is for tls.Config.GetCertificate, where peers go by SPIFFE IDs.
func (w *own) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	w.await(hello.Context())
	c, _, _ := w.holder.Current()
	if c == nil {
		return nil, w.ready()
	}
	return c.TLS(), nil
}

// named is the server's side of TLS for those who know it by a DNS name, and who say otherwise who they are.
func (w *own) named() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			w.await(hello.Context())
			return w.serving.GetCertificate(hello)
		},
	}
}

// await waits until there is a certificate, or for a while.
func (w *own) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handshakePatience)
	defer cancel()
	w.holder.Wait(ctx)
}

// anchors gives the certificates by which others are to know this server, in PEM, and the fingerprint of the bundle that
// they are from; none before the signer has said so itself.
func (w *own) anchors() (text []byte, fingerprint string, changed <-chan struct{}) {
	c, b, changed := w.holder.Current()
	if c == nil || b == nil {
		return nil, "", changed
	}
	return identity.AnchorsPEM(b), identity.Fingerprint(b), changed
}

// facts asks the signer for what people may know of identities.
func (w *own) facts(ctx context.Context) (f service.Facts, err error) {
	text, err := w.client.Facts(ctx)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, fmt.Errorf("read the facts of identities: %w", err)
	}
	return f, nil
}
