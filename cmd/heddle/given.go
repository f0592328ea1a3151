package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/heddle-mesh/heddle/controlplane"
	"github.com/heddle-mesh/heddle/identity"
)

// caFlags name the CA that heddle serve begins with, where there never was one.
type caFlags struct{ chain, key, anchors, jwtKey string }

func (f *caFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.chain, "ca-chain", "", "begin with a given CA where there never was one: PEM file, its own certificate first, without the root (default: a new root is made)")
	flags.StringVar(&f.key, "ca-key", "", "PEM file of its private key, ECDSA on P-256 or P-384")
	flags.StringVar(&f.anchors, "ca-anchors", "", "PEM file of the roots that it leads to; none if its certificate is self-signed")
	flags.StringVar(&f.jwtKey, "ca-jwt-key", "", "PEM file of a key on P-256 that signs tokens for applications (default: a new one is made)")
}

// first is who makes the first CA. The files are read only then: they may be gone when there is one.
func (f *caFlags) first(td spiffeid.TrustDomain) (controlplane.FirstCA, error) {
	switch {
	case *f == caFlags{}:
		return controlplane.FirstCA{}, nil
	case f.chain == "" || f.key == "":
		return controlplane.FirstCA{}, errors.New("--ca-chain and --ca-key belong together, and --ca-anchors and --ca-jwt-key to them")
	}
	return controlplane.FirstCA{From: f.chain, Make: func(now time.Time) (*identity.Authority, error) {
		m, err := f.read()
		if err != nil {
			return nil, err
		}
		return identity.LoadAuthority(td, m, now)
	}}, nil
}

// read gives what is in the files, with a new key for tokens if none is given.
func (f *caFlags) read() (m identity.Material, err error) {
	for _, file := range []struct {
		flag, path string
		into       *[]byte
	}{
		{"ca-chain", f.chain, &m.Certificates}, {"ca-key", f.key, &m.Key}, {"ca-anchors", f.anchors, &m.Anchors}, {"ca-jwt-key", f.jwtKey, &m.JWTKey},
	} {
		if file.path == "" {
			continue
		}
		if *file.into, err = os.ReadFile(file.path); err != nil {
			return identity.Material{}, fmt.Errorf("--%s: %w", file.flag, err)
		}
	}
	if m.JWTKey == nil {
		m.JWTKey, err = identity.NewJWTKey()
	}
	return m, err
}
