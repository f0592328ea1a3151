package service

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/identity"
)

// Serving says who gets certificates by which clients know a server that go by DNS names, as the API server does with a
// webhook. The zero value: nobody.
type Serving struct {
	Account string   // NAMESPACE/ACCOUNT of the control plane's own pods
	Names   []string // all that they may ask for
}

// check refuses everybody but the control plane, and every name that is not the control plane's.
func (v Serving) check(w identity.Workload, names []string) error {
	switch account := w.Namespace + "/" + w.Account; {
	case account != v.Account:
		return &problem{http.StatusForbidden, codeServing, "a certificate with DNS names is for the control plane's own ServiceAccount, and this is " + account, nil}
	case len(names) == 0:
		return &problem{http.StatusBadRequest, codeRequest, "names lists no DNS name; POST /v1/svid gives certificates without", nil}
	}
	for _, name := range names {
		if !slices.Contains(v.Names, name) {
			return &problem{http.StatusForbidden, codeServing, fmt.Sprintf("the DNS name %q is none of %s", name, strings.Join(v.Names, ", ")), nil}
		}
	}
	return nil
}

// serving answers POST /v1/serving. Such a certificate names no pod, so it is of no use to dial anybody with.
func (s *Server) serving(w http.ResponseWriter, r *http.Request) error {
	begin := s.options.Now()
	var ask struct {
		CSR   []byte   `json:"csr"`
		Names []string `json:"names"`
	}
	if err := read(w, r, &ask); err != nil {
		return err
	}
	workload, err := s.attest(r)
	if err != nil {
		return err
	}
	if err := s.options.Serving.check(workload, ask.Names); err != nil {
		return err
	}
	chain, bundle, err := s.issue(r, workload, ask.CSR, func(q *identity.Request) { q.DNSNames = ask.Names })
	if err != nil {
		return err
	}
	leaf := chain[0]
	s.connected.alsoIssued(workload, leafOf(chain, bundle))
	s.metrics.issued("serving", s.options.Now().Sub(begin))
	s.options.Log.Info().Str("pod", workload.Namespace+"/"+workload.Pod).Str("pod_uid", workload.PodUID).Strs("names", ask.Names).
		Str("serial", hex.EncodeToString(leaf.SerialNumber.Bytes())).Time("not_after", leaf.NotAfter).Msg("issued a serving certificate")
	return s.writeSVID(w, chain, bundle)
}
