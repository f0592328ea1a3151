package attest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/heddle-mesh/heddle/identity"
)

// joinPrefix tells a join token from others, for people and for scanners of leaked secrets.
const joinPrefix = "heddle-join"

const (
	joinLifetime = 10 * time.Minute
	maxJoins     = 10_000
)

// JoinTokens attest sidecars that one process starts itself, in the demo and with manifests, where no API server vouches
// for a pod. Whoever starts a sidecar hands it a token for that one pod ([JoinTokens.Hand]), good for one use within ten
// minutes; from then on the sidecar renews with the certificate that it has ([JoinTokens.Renew]).
//
// Unix peer credentials would be the other choice. They tell users apart, and here all sidecars run as the same one.
//
// It is safe for concurrent use.
type JoinTokens struct {
	now  func() time.Time
	pods Manifests

	mu    sync.Mutex
	joins *bounded[string, join]
}

// join is a token that was handed out. The secret itself is not kept.
type join struct {
	workload identity.Workload
	hash     [sha256.Size]byte
	until    time.Time
}

// Manifests finds a pod in what the manifests say; it may have to wait until they have been read. Without one it gives
// false. It must be safe for concurrent use.
type Manifests func(ctx context.Context, namespace, name string) (Pod, bool, error)

// NewJoinTokens makes a JoinTokens that knows no token. pods are those that may renew; nil: all that have a certificate.
// now may be nil for time.Now.
func NewJoinTokens(pods Manifests, now func() time.Time) *JoinTokens {
	if now == nil {
		now = time.Now
	}
	return &JoinTokens{now: now, pods: pods, joins: newBounded[string, join](maxJoins)}
}

// Hand makes a token for a pod. It is 256 random bits with a name by which it is found; only their hash is kept.
func (j *JoinTokens) Hand(w identity.Workload) string {
	var name [8]byte
	var secret [32]byte
	rand.Read(name[:]) // it never fails (crypto/rand)
	rand.Read(secret[:])
	key := hex.EncodeToString(name[:])
	j.mu.Lock()
	defer j.mu.Unlock()
	j.joins.put(key, join{w, sha256.Sum256(secret[:]), j.now().Add(joinLifetime)})
	return joinPrefix + "." + key + "." + base64.RawURLEncoding.EncodeToString(secret[:])
}

// Attest says for which pod a token was handed out, once. It fails with a *Refusal.
func (j *JoinTokens) Attest(_ context.Context, token string) (identity.Workload, error) {
	if token == "" {
		return identity.Workload{}, refuse(NoToken, "no token was sent; send the join token as Authorization: Bearer")
	}
	refused := refuse(JoinRefused, "the join token is unknown, used or older than 10 minutes; ask for another one")
	rest, ok := strings.CutPrefix(token, joinPrefix+".")
	key, encoded, two := strings.Cut(rest, ".")
	if !ok || !two || len(token) > maxToken {
		return identity.Workload{}, refused
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return identity.Workload{}, refused
	}
	hash := sha256.Sum256(secret)
	j.mu.Lock()
	defer j.mu.Unlock()
	held, ok := j.joins.get(key)
	if !ok || subtle.ConstantTimeCompare(hash[:], held.hash[:]) != 1 {
		return identity.Workload{}, refused
	}
	j.joins.remove(key)
	if !j.now().Before(held.until) {
		return identity.Workload{}, refused
	}
	return held.workload, nil
}

// Renew says whose certificate it is. The caller has verified it, and that its peer has the key. It fails with a
// *Refusal if the CA did not write a pod into it, and if the manifests do not have that pod any more.
func (j *JoinTokens) Renew(ctx context.Context, leaf *x509.Certificate) (identity.Workload, error) {
	refused := refuse(RenewalRefused, "the certificate names no pod of the mesh; start the sidecar anew, with a join token")
	id, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return identity.Workload{}, refused
	}
	namespace, account, err := identity.Split(id)
	if err != nil {
		return identity.Workload{}, refused
	}
	pod, uid, err := identity.PodOf(leaf)
	if err != nil {
		return identity.Workload{}, refused
	}
	w := identity.Workload{Namespace: namespace, Account: account, Pod: pod, PodUID: uid}
	if err := j.exists(ctx, w); err != nil {
		return identity.Workload{}, err
	}
	return w, nil
}

// exists says whether there still is such a pod.
func (j *JoinTokens) exists(ctx context.Context, w identity.Workload) error {
	if j.pods == nil {
		return nil
	}
	name := "pod " + w.Namespace + "/" + w.Pod
	p, ok, err := j.pods(ctx, w.Namespace, w.Pod)
	switch {
	case err != nil:
		return &Refusal{Reason: PodUnknown, Message: "whether there is a " + name + " could not be told; ask again", cause: err}
	case !ok:
		return refuse(RenewalRefused, "the manifests have no "+name+" any more; put it back, or end its sidecar")
	case p.UID != w.PodUID:
		return refuse(PodReplaced, name+" is another one than the certificate's (its UID differs); start its sidecar anew")
	case p.Account != w.Account:
		return refuse(AccountMismatch, name+" runs as another ServiceAccount than the certificate's; start its sidecar anew")
	}
	return nil
}
