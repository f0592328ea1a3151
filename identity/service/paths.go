package service

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/heddle-mesh/heddle/identity"
)

// svid answers POST /v1/svid.
func (s *Server) svid(w http.ResponseWriter, r *http.Request) error {
	begin := s.options.Now()
	var ask struct {
		CSR    []byte `json:"csr"`
		Renews bool   `json:"renews"` // it has a certificate already
	}
	if err := read(w, r, &ask); err != nil {
		return err
	}
	workload, err := s.attest(r)
	if err != nil {
		return err
	}
	chain, bundle, err := s.issue(r, workload, ask.CSR, func(q *identity.Request) { q.Pod, q.PodUID = workload.Pod, workload.PodUID })
	if err != nil {
		return err
	}
	leaf := chain[0]
	if l := leafOf(chain, bundle); ask.Renews {
		s.connected.renewed(workload, l)
	} else {
		s.connected.began(workload, l, identity.Fingerprint(bundle))
	}
	s.metrics.issued("svid", s.options.Now().Sub(begin))
	s.options.Log.Info().Stringer("id", leaf.URIs[0]).Str("pod", workload.Namespace+"/"+workload.Pod).Str("pod_uid", workload.PodUID).
		Str("node", workload.Node).Str("serial", hex.EncodeToString(leaf.SerialNumber.Bytes())).Time("not_after", leaf.NotAfter).Msg("issued")
	return s.writeSVID(w, chain, bundle)
}

// issue signs for the key of a CSR of a workload that is attested. what says what goes into the certificate beside its ID.
func (s *Server) issue(r *http.Request, w identity.Workload, csr []byte, what func(*identity.Request)) ([]*x509.Certificate, *spiffebundle.Bundle, error) {
	bundle, _, err := s.options.Authorities.Bundle()
	if err != nil {
		return nil, nil, err
	}
	issuer, err := s.options.Authorities.Issuer()
	if err != nil {
		return nil, nil, err
	}
	id, err := identity.ID(bundle.TrustDomain(), w.Namespace, w.Account)
	if err != nil {
		return nil, nil, err
	}
	key, err := identity.CheckCSR(csr, id)
	if err != nil {
		return nil, nil, err
	}
	if err := s.options.Authorities.Ready(); err != nil { // attestation may have taken a while
		return nil, nil, err
	}
	ask := identity.Request{ID: id, Key: key, Lifetime: s.options.Lifetime}
	what(&ask)
	chain, err := issuer.Issue(r.Context(), ask)
	return chain, bundle, err
}

func (s *Server) writeSVID(w http.ResponseWriter, chain []*x509.Certificate, bundle *spiffebundle.Bundle) error {
	text, err := identity.MarshalBundle(bundle)
	if err != nil {
		return err
	}
	answer := struct {
		Chain  [][]byte        `json:"chain"`
		Bundle json.RawMessage `json:"bundle"`
		// Lifetime is what the signer is set to, in seconds, and not what is left to its CA: others are set to the same.
		Lifetime int64 `json:"lifetime"`
	}{Bundle: text, Lifetime: int64(cmp.Or(s.options.Lifetime, identity.DefaultLifetime) / time.Second)}
	for _, c := range chain {
		answer.Chain = append(answer.Chain, c.Raw)
	}
	write(w, s.options.Log, http.StatusOK, answer)
	return nil
}

// attest says who asks for a certificate: by the token if there is one, else by the certificate, where that is enough.
func (s *Server) attest(r *http.Request) (identity.Workload, error) {
	token := bearer(r)
	if token != "" || s.renewer == nil {
		if !s.addresses.allow(r.RemoteAddr, s.options.Now()) {
			return identity.Workload{}, &problem{http.StatusTooManyRequests, codeAddress, "too many requests come from this address; ask again", nil}
		}
		return s.attestor.Attest(r.Context(), token)
	}
	_, _, leaf, err := s.caller(r)
	if err != nil {
		return identity.Workload{}, err
	}
	return s.renewer.Renew(r.Context(), leaf)
}

// bearer reads the token of a request (RFC 6750, 2.1).
func bearer(r *http.Request) string {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// jwt answers POST /v1/jwt.
func (s *Server) jwt(w http.ResponseWriter, r *http.Request) error {
	begin := s.options.Now()
	id, workload, _, err := s.caller(r)
	if err != nil {
		return err
	}
	var ask struct {
		Audience []string `json:"audience"`
	}
	if err := read(w, r, &ask); err != nil {
		return err
	}
	signer, err := s.options.Authorities.Tokens()
	if err != nil {
		return err
	}
	token, err := signer.Mint(r.Context(), id, ask.Audience, s.options.TokenLife)
	if err != nil {
		return err
	}
	s.metrics.issued("jwt", s.options.Now().Sub(begin))
	s.options.Log.Info().Str("id", id.String()).Str("pod", workload.Namespace+"/"+workload.Pod).Str("pod_uid", workload.PodUID).
		Strs("audience", ask.Audience).Msg("issued a JWT")
	write(w, s.options.Log, http.StatusOK, struct {
		Token string `json:"token"`
	}{token})
	return nil
}

// fingerprint is what identity.Fingerprint gives.
var fingerprint = regexp.MustCompile(`^[0-9a-f]{64}$`)

// bundle answers GET /v1/bundle.
func (s *Server) bundle(w http.ResponseWriter, r *http.Request) error {
	_, workload, _, err := s.caller(r)
	if err != nil {
		return err
	}
	bundle, changed, err := s.options.Authorities.Bundle()
	if err != nil {
		return err
	}
	query := r.URL.Query()
	after, uses := query.Get("after"), uses{bundle: query.Get("taken"), leaf: query.Get("leaf")}
	for _, f := range []string{after, uses.bundle, uses.leaf} {
		if f != "" && !fingerprint.MatchString(f) {
			return &problem{http.StatusBadRequest, codeRequest, "after and taken are fingerprints of bundles, and leaf is one of a certificate: 64 hexadecimal digits", nil}
		}
	}
	end, renewed := s.connected.poll(workload, leafOf(r.TLS.PeerCertificates, bundle), uses)
	if end == nil {
		return &problem{http.StatusTooManyRequests, codeBusy, "this sidecar waits for the bundle several times already", nil}
	}
	defer end()
	if identity.Fingerprint(bundle) == after {
		if err := wait(r.Context(), changed, renewed); err != nil {
			return err
		}
		if bundle, _, err = s.options.Authorities.Bundle(); err != nil {
			return err
		}
	}
	if identity.Fingerprint(bundle) == after {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	text, err := identity.MarshalBundle(bundle)
	if err != nil {
		return err
	}
	write(w, s.options.Log, http.StatusOK, map[string]json.RawMessage{"bundle": text})
	return nil
}

// wait waits for a new bundle, or for another reason to want a new report: that another authority signs, or that this
// sidecar has a new leaf to show, once it had a moment to put that in use.
func wait(ctx context.Context, changed, renewed <-chan struct{}) error {
	tooLong := time.NewTimer(patience)
	defer tooLong.Stop()
	select {
	case <-changed:
		return nil
	case <-tooLong.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-renewed:
	}
	moment := time.NewTimer(2 * time.Second)
	defer moment.Stop()
	select {
	case <-changed:
	case <-moment.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
