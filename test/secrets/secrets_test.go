package secrets

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/identity"
	"github.com/heddle-mesh/heddle/identity/attest"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func curveKey(c elliptic.Curve) *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(c, rand.Reader)) }

func pkcs8(key crypto.PrivateKey) []byte { return must(x509.MarshalPKCS8PrivateKey(key)) }

// amid puts a text into a longer one, n bytes after its beginning.
func amid(n int, text []byte) []byte {
	return append(append([]byte(strings.Repeat("x", n)), text...), "yyy"...)
}

func TestSecretsThatNobodyKnowsAreFoundByTheirForm(t *testing.T) {
	authority := must(identity.NewRoot(spiffeid.RequireTrustDomainFromString("cluster.local"), time.Now(), 0))
	id := must(identity.ID(authority.TrustDomain(), "shop", "web"))
	jwt := must(authority.Mint(t.Context(), id, []string{"catalog"}, 0))
	join := attest.NewJoinTokens(nil, nil).Hand(identity.Workload{Namespace: "shop", Account: "web", Pod: "web-1"})
	for what, key := range map[string][]byte{
		"P-256":   pkcs8(curveKey(elliptic.P256())),
		"P-384":   pkcs8(curveKey(elliptic.P384())),
		"Ed25519": pkcs8(must(generateEd25519())),
		"RSA":     pkcs8(must(rsa.GenerateKey(rand.Reader, 2048))),
	} {
		text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
		for form, planted := range map[string][]byte{
			"PEM": text, "PEM in JSON": must(json.Marshal(string(text))), "DER": key, "hex": []byte(hex.EncodeToString(key)),
			"HEX": []byte(strings.ToUpper(hex.EncodeToString(key))), "base64 of PEM": []byte(base64.StdEncoding.EncodeToString(text)),
		} {
			wantFound(t, New(t), what+" as "+form, planted)
		}
		for n := range 3 { // wherever in a group of three bytes it begins
			wantFound(t, New(t), what+" in base64", []byte(base64.StdEncoding.EncodeToString(amid(n, key))))
			wantFound(t, New(t), what+" in base64 for URLs", []byte(base64.RawURLEncoding.EncodeToString(amid(n, key))))
		}
	}
	sec1 := must(x509.MarshalECPrivateKey(curveKey(elliptic.P256())))
	for what, planted := range map[string]string{
		"SEC 1 as PEM": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})),
		"a JWT":        "authorization: Bearer " + jwt,
		"a join token": `{"token":"` + join + `"}`,
		"a JWK":        `{"kty":"EC","crv":"P-256","d":"` + base64.RawURLEncoding.EncodeToString(make([]byte, 32)) + `"}`,
		"a quoted JWK": `{\"kty\":\"EC\",\"d\":\"` + base64.RawURLEncoding.EncodeToString(make([]byte, 32)) + `\"}`,
	} {
		wantFound(t, New(t), what, []byte(planted))
	}
}

func generateEd25519() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

func TestSecretsThatTheTestKnowsAreFoundByTheirValue(t *testing.T) {
	key := curveKey(elliptic.P256())
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(key)})
	scan := New(t)
	if n := scan.KnowKeys(must(json.Marshal(map[string]string{"certificates": "-----BEGIN nothing", "key": string(text)}))); n != 1 {
		t.Fatalf("of one key in JSON %d were found", n)
	}
	scan.Know("a token of the test", []byte("0123456789abcdef0123"))
	scalar := must(key.Bytes())
	for what, planted := range map[string][]byte{
		"the number":            scalar,
		"the number in hex":     []byte(hex.EncodeToString(scalar)),
		"the number in base64":  []byte(base64.StdEncoding.EncodeToString(amid(1, scalar))),
		"the number in decimal": []byte("D:" + new(big.Int).SetBytes(scalar).String()),
		"SEC 1 in hex":          []byte(hex.EncodeToString(must(x509.MarshalECPrivateKey(key)))),
		"the token":             []byte("token=0123456789abcdef0123"),
	} {
		wantFound(t, scan, what, amid(7, planted))
	}
}

func wantFound(t *testing.T, s *Scan, what string, text []byte) {
	t.Helper()
	found := s.Find(text)
	if len(found) == 0 {
		t.Errorf("%s is not found", what)
	}
	for _, f := range found {
		if len(f) > 100 {
			t.Errorf("%s: what is said of it is so long that it may hold it", what)
		}
	}
}

// What is public must not be taken for a secret, or nobody would believe a finding.
func TestWhatIsPublicIsNoFinding(t *testing.T) {
	authority := must(identity.NewRoot(spiffeid.RequireTrustDomainFromString("cluster.local"), time.Now(), 0))
	key := curveKey(elliptic.P256())
	id := must(identity.ID(authority.TrustDomain(), "shop", "web"))
	chain := must(authority.Issue(t.Context(), identity.Request{ID: id, Key: key.Public(), Pod: "web-1"}))
	public := must(x509.MarshalPKIXPublicKey(key.Public()))
	for what, text := range map[string][]byte{
		"a certificate":           identity.CertificatesPEM(chain),
		"a certificate as DER":    chain[0].Raw,
		"a trust bundle":          must(identity.MarshalBundle(authority.Bundle())),
		"a public key":            pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"a public key as hex":     []byte(hex.EncodeToString(public)),
		"what Envoy dumps of one": []byte(`"private_key": {"inline_bytes": "W3JlZGFjdGVkXQ=="}`),
		"words about them":        []byte("the join token is unknown; heddle-join tokens are PRIVATE KEYs of a kind"),
	} {
		if found := New(t).Find(text); len(found) > 0 {
			t.Errorf("%s is taken for %v", what, found)
		}
	}
}
