package hold

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/test/signers"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newSigner(t testing.TB, account string, lifetime time.Duration) *signers.Signer {
	return signers.New(t, account, lifetime)
}

func domain() spiffeid.TrustDomain { return signers.Domain() }

func idOf(account string) spiffeid.ID { return must(identity.ID(domain(), "shop", account)) }

var errAway = errors.New("the signer is away")

const secretToken = "heddle-test-token-0123456789"

// options are those of a holder of s with everything that New asks for, in dir.
func options(t testing.TB, s *signers.Signer, dir string) Options {
	t.Helper()
	bundle, token := filepath.Join(dir, "bundle.json"), filepath.Join(dir, "token")
	writeFile(t, bundle, must(identity.MarshalBundle(s.Trusted())))
	writeFile(t, token, []byte(secretToken+"\n"))
	return Options{
		ID: s.ID, BundleFile: bundle, TokenFile: token, Connect: func(Trust) Signer { return s },
		Log: zerolog.New(zerolog.NewTestWriter(t)),
	}
}

func writeFile(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}

// noSecrets looks for the holder's key, in the forms that printing gives it, and for the token.
func noSecrets(t testing.TB, h *Holder, where, text string) {
	t.Helper()
	c, _, _ := h.docs.current()
	der := must(c.PKCS8())
	scalar := must(c.key.private().Bytes())
	if _, err := x509.ParsePKCS8PrivateKey(der); err != nil {
		t.Fatal(err)
	}
	for what, secret := range map[string][]byte{
		"the mark of a private key": []byte("PRIVATE KEY-----"),
		"the key as PEM":            must(c.KeyPEM())[30:80],
		"the key as DER":            der,
		"the key in base64":         []byte(base64.StdEncoding.EncodeToString(der)),
		"the key in hex":            []byte(hex.EncodeToString(der)),
		"the scalar":                scalar,
		"the scalar in base64":      []byte(base64.StdEncoding.EncodeToString(scalar)),
		"the scalar in hex":         []byte(hex.EncodeToString(scalar)),
		"the scalar as a number":    []byte(new(big.Int).SetBytes(scalar).String()),
		"the token":                 []byte(secretToken),
	} {
		if bytes.Contains([]byte(text), secret) {
			t.Errorf("%s holds %s", where, what)
		}
	}
}
