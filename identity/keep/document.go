package keep

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	kjson "sigs.k8s.io/json"

	"github.com/heddle-mesh/heddle/identity"
)

// documentVersion is that of what is written. A later one is refused, never read by halves.
const documentVersion = 1

// document is the CA as it is stored. It must stay readable for later versions.
type document struct {
	Version int            `json:"version"`
	State   identity.State `json:"state"`
	// Before is the fingerprint of the bundle before the last change of the state: who wrote that may have died before
	// it wrote the new bundle.
	Before string `json:"before,omitempty"`
	// Sequence is the bundle's sequence number. Documents of before there was one have none: it is 1.
	Sequence    uint64              `json:"sequence,omitempty"`
	Authorities map[string]material `json:"authorities"` // by name
}

// material is identity.Material as text.
type material struct {
	Certificates string `json:"certificates"`
	Key          string `json:"key"`
	Anchors      string `json:"anchors,omitempty"`
	JWTKey       string `json:"jwtKey,omitempty"`
}

// ca is a document that was read, with its authorities. It is immutable.
type ca struct {
	state       identity.State
	before      string
	sequence    uint64 // the bundle has it as well
	authorities map[string]*identity.Authority
	bundle      *spiffebundle.Bundle
}

// first makes a CA with one authority.
func first(a *identity.Authority, now time.Time) (*ca, error) {
	state, err := identity.NewState(party(a), now)
	if err != nil {
		return nil, err
	}
	return assemble(state, "", numberAfter(0, state), map[string]*identity.Authority{a.Name(): a})
}

func party(a *identity.Authority) identity.Party {
	return identity.Party{Authority: a.Name(), Bundle: identity.Fingerprint(a.Bundle())}
}

// numberAfter is the sequence number of a bundle that a state brings, after one with another number. It grows by one at
// least. It is no smaller than the time, so that it grows as well when a CA was given up, or an old backup restored.
func numberAfter(last uint64, state identity.State) uint64 {
	return max(last+1, uint64(max(state.Entered.Unix(), 0)))
}

// assemble holds a state against the authorities that it names, and leaves out others.
func assemble(state identity.State, before string, sequence uint64, authorities map[string]*identity.Authority) (*ca, error) {
	if err := state.Valid(); err != nil {
		return nil, err
	}
	c := &ca{state: state, before: before, sequence: sequence, authorities: map[string]*identity.Authority{}}
	for _, p := range []identity.Party{state.Current, state.Successor} {
		if p.Authority == "" {
			continue
		}
		a := authorities[p.Authority]
		if a == nil {
			return nil, fmt.Errorf("authority %.16s, which the rotation names, is not there", p.Authority)
		}
		if party(a) != p {
			return nil, fmt.Errorf("authority %.16s is not as the rotation names it", p.Authority)
		}
		c.authorities[p.Authority] = a
	}
	for _, name := range state.Trusted() {
		b := c.authorities[name].Bundle()
		if c.bundle == nil {
			c.bundle = b
			continue
		}
		both, err := identity.Merge(c.bundle, b)
		if err != nil {
			return nil, err
		}
		c.bundle = both
	}
	if identity.Fingerprint(c.bundle) != state.Bundle() {
		return nil, errors.New("its authorities do not make the bundle that the rotation names")
	}
	c.bundle.SetSequenceNumber(sequence)
	return c, nil
}

func (c *ca) signer() *identity.Authority { return c.authorities[c.state.Signer()] }

// moved is the CA after a step of its rotation.
func (c *ca) moved(state identity.State) (*ca, error) { return c.with(state, c.authorities) }

// with is the CA after a step to other authorities.
func (c *ca) with(state identity.State, authorities map[string]*identity.Authority) (*ca, error) {
	sequence := c.sequence
	if state.Bundle() != c.state.Bundle() {
		sequence = numberAfter(sequence, state)
	}
	return assemble(state, c.state.Bundle(), sequence, authorities)
}

// encode writes a CA with its keys.
func (c *ca) encode() ([]byte, error) {
	d := document{Version: documentVersion, State: c.state, Before: c.before, Sequence: c.sequence, Authorities: map[string]material{}}
	for name, a := range c.authorities {
		m, err := a.Material()
		if err != nil {
			return nil, err
		}
		d.Authorities[name] = material{string(m.Certificates), string(m.Key), string(m.Anchors), string(m.JWTKey)}
	}
	return json.Marshal(d)
}

// decode reads what encode wrote. No error holds any of it.
func decode(td spiffeid.TrustDomain, text []byte, now time.Time) (*ca, error) {
	var d document
	strict, err := kjson.UnmarshalStrict(text, &d)
	switch {
	case err != nil || len(strict) > 0:
		return nil, errors.New("it is not the JSON that was written") // not err: it may quote what it read
	case d.Version != documentVersion:
		return nil, fmt.Errorf("it is of version %d, and this program knows %d", d.Version, documentVersion)
	}
	authorities := map[string]*identity.Authority{}
	for name, m := range d.Authorities {
		a, err := identity.LoadKept(td, identity.Material{
			Certificates: []byte(m.Certificates), Key: []byte(m.Key), Anchors: []byte(m.Anchors), JWTKey: []byte(m.JWTKey),
		}, now)
		if err != nil {
			return nil, err
		}
		if a.Name() != name {
			return nil, fmt.Errorf("an authority is not the one that it is filed as, %.16s", name)
		}
		authorities[name] = a
	}
	return assemble(d.State, d.Before, max(d.Sequence, 1), authorities)
}

// trust is what everybody may know.
type trust struct {
	Fingerprint string
	Bundle      []byte // SPIFFE JWKS
}

func (c *ca) trust() (trust, error) {
	text, err := identity.MarshalBundle(c.bundle)
	return trust{Fingerprint: c.state.Bundle(), Bundle: text}, err
}
