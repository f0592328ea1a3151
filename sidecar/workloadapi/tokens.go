package workloadapi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
)

// maxTokens is how many audiences are remembered; an application speaks to few.
const maxTokens = 64

// tokens remembers JWT-SVIDs for the first half of their life, so that an application that asks for one per request
// costs the signer nothing, and has one while the signer is away.
type tokens struct {
	source Source

	mu   sync.Mutex
	held map[string]held
}

type held struct {
	token string
	until time.Time
}

func newTokens(s Source) *tokens { return &tokens{source: s, held: map[string]held{}} }

func (t *tokens) get(ctx context.Context, audience []string) (string, error) {
	// Quoted, so that no two lists have the same key.
	key := fmt.Sprintf("%q", slices.Sorted(slices.Values(audience)))
	if token, ok := t.lookUp(key); ok && t.good(token, audience) {
		return token, nil
	}
	token, err := t.source.JWT(ctx, audience)
	if err != nil {
		return "", err
	}
	// The signer is whom we believe; only the times are read.
	svid, err := jwtsvid.ParseInsecure(token, audience)
	if err != nil {
		return "", fmt.Errorf("the signer's answer for %s is no JWT-SVID: %w", strings.Join(audience, ", "), err)
	}
	t.keep(key, held{token, time.Now().Add(time.Until(svid.Expiry) / 2)})
	return token, nil
}

// good says that a token is still one that others accept: the key that signed it may have been withdrawn.
func (t *tokens) good(token string, audience []string) bool {
	_, bundle, _ := t.source.Documents()
	if bundle == nil {
		return false
	}
	_, err := jwtsvid.ParseAndValidate(token, bundle.JWTBundle(), audience)
	return err == nil
}

func (t *tokens) lookUp(key string) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.held[key]
	return h.token, ok && time.Now().Before(h.until)
}

func (t *tokens) keep(key string, h held) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.held) >= maxTokens {
		clear(t.held)
	}
	t.held[key] = h
}
