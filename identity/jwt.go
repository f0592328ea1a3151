package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// DefaultTokenLifetime is that of a JWT-SVID.
	DefaultTokenLifetime = 5 * time.Minute
	// MaxTokenLifetime is the longest that a JWT-SVID may have: who sees one can use it.
	MaxTokenLifetime = time.Hour

	maxAudiences = 16
	maxAudience  = 1024 // bytes of one
	p256Bytes    = 32
)

// JWTSigner signs JWT-SVIDs.
type JWTSigner interface {
	Mint(ctx context.Context, id spiffeid.ID, audience []string, lifetime time.Duration) (string, error)
}

// KeyID names the key that signs tokens, as the bundle has it (kid); empty if there is none.
func (a *Authority) KeyID() string {
	if a.jwtKey == nil {
		return ""
	}
	der, err := x509.MarshalPKIXPublicKey(a.jwtKey().Public())
	if err != nil { // it was read, or made, by this package: always a P-256 key
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:16])
}

// Mint signs a JWT-SVID (SPIFFE JWT-SVID, 3: sub, aud, exp; iat besides) with ES256 for id, now. The lifetime is
// [DefaultTokenLifetime] if zero. A token for no audience is refused: everybody could use it against everybody.
func (a *Authority) Mint(ctx context.Context, id spiffeid.ID, audience []string, lifetime time.Duration) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("sign a token for %s: %w", id, err)
	}
	if err := a.checkToken(id, audience, lifetime); err != nil {
		return "", err
	}
	if err := a.maySign(time.Now()); err != nil {
		return "", fmt.Errorf("sign a token for %s: %w", id, err)
	}
	if lifetime == 0 {
		lifetime = DefaultTokenLifetime
	}
	now := time.Now()
	header, err := json.Marshal(map[string]string{"alg": "ES256", "kid": a.KeyID(), "typ": "JWT"})
	if err != nil {
		return "", fmt.Errorf("sign a token for %s: %w", id, err)
	}
	claims, err := json.Marshal(map[string]any{"sub": id.String(), "aud": audience, "iat": now.Unix(), "exp": now.Add(lifetime).Unix()})
	if err != nil {
		return "", fmt.Errorf("sign a token for %s: %w", id, err)
	}
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, a.jwtKey(), digest[:])
	if err != nil {
		return "", fmt.Errorf("sign a token for %s: %w", id, err)
	}
	// RFC 7518, 3.4: both numbers, 32 bytes each.
	signature := make([]byte, 2*p256Bytes)
	r.FillBytes(signature[:p256Bytes])
	s.FillBytes(signature[p256Bytes:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

func (a *Authority) checkToken(id spiffeid.ID, audience []string, lifetime time.Duration) error {
	if a.jwtKey == nil {
		return refuse(CodeNoJWT, "sign a token for %s: the CA of %s has no key for tokens", id, a.td)
	}
	if _, _, err := Split(id); err != nil {
		return fmt.Errorf("sign a token: %w", err)
	}
	if id.TrustDomain() != a.td {
		return refuse(CodeTrustDomain, "sign a token for %s: this CA is of trust domain %s", id, a.td)
	}
	if len(audience) == 0 || len(audience) > maxAudiences || slices.ContainsFunc(audience, func(s string) bool { return s == "" || len(s) > maxAudience }) {
		return refuse(CodeAudience, "sign a token for %s: it needs 1 to %d audiences of 1 to %d bytes each; name who shall accept it",
			id, maxAudiences, maxAudience)
	}
	// Whole seconds are all that a token knows.
	if lifetime != 0 && (lifetime < MinLifetime || lifetime > MaxTokenLifetime) {
		return refuse(CodeLifetime, "sign a token for %s: a lifetime of %s; choose between %s and %s", id, lifetime, MinLifetime, MaxTokenLifetime)
	}
	return nil
}
